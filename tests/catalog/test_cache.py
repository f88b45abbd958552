"""A catalogue opened from its columns is the one that its JSON gives, or the JSON is read again."""

import json
import os
import pickle
import shutil
from dataclasses import fields

import numpy as np
import pytest

import ndvol
from ndvol.catalog import CaseRecord, cache
from ndvol.errors import CatalogError


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """A kwcoco file of cases with 2, 3 and 4 axes and of pictures, and its number of parses."""
    monkeypatch.setattr(cache, "LEAST_BYTES", 1)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, 31):
        axes = ("yx", "zyx", "tzyx", "")[number % 4]
        shape = rng.integers(20, 60, len(axes)).tolist()
        image = {
            "id": number,
            "name": f"cäse-{number}",
            "file_name": f"volumes/{number}.png",
            "width": 40,
            "height": 30,
        }
        if axes:
            facts = {"file": f"{number}.h5", "axes": axes, "shape": shape, "spacing": [1.5] * len(axes), "unit": "mm"}
            image["ndvol"] = facts | {"images": ["CT"], "labels": ["organs"], "sha256": "0" * 64}
        images.append(image)
        for _ in range(number % 5):
            start = rng.integers(0, 10, len(axes)).tolist()
            box = {"label": "organs", "value": 3, "voxels": 7, "start": start, "stop": [s + 5 for s in start]}
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": 4, "bbox": [1, 2, 3, 4]}
            annotations.append(annotation | ({"ndvol": box} if axes else {}))
    categories = [{"id": 2, "name": "lesion"}, {"id": 4, "name": "cyst", "supercategory": "lesion"}]
    path = tmp_path / "data.kwcoco.json"
    path.write_text(json.dumps({"categories": categories, "images": images, "annotations": annotations}))
    parses = []
    load = ndvol.opening.load_coco
    monkeypatch.setattr(ndvol.opening, "load_coco", lambda p: parses.append(p) or load(p))
    return path, parses


def facts(catalog):
    def plain(record: CaseRecord):
        values = {f.name: getattr(record, f.name) for f in fields(record)}
        objects = values.pop("objects")
        return values | {f.name: getattr(objects, f.name).tolist() for f in fields(objects)}

    return [plain(r) for r in catalog.records.values()], catalog.categories


def test_the_second_time_the_json_is_not_parsed(coco):
    path, parses = coco
    first = facts(ndvol.open(path))
    again = ndvol.open(path)
    assert len(parses) == 1
    assert facts(again) == first
    assert len(first[0]) == 30
    assert sum(len(row["category"]) for row in first[0]) == 60
    assert facts(pickle.loads(pickle.dumps(again))) == first


def test_another_content_is_read_anew(coco):
    path, parses = coco
    ndvol.open(path)
    stat = path.stat()
    path.write_text(path.read_text().replace("1.5", "2.5"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time
    catalog = ndvol.open(path)
    assert len(parses) == 2
    assert {r.spacing[0] for r in catalog.records.values() if r.sha256} == {2.5}


def test_a_moved_catalogue_names_its_new_folder(coco, tmp_path):
    path, parses = coco
    ndvol.open(path)
    shutil.copytree(path.parent, tmp_path / "moved")
    catalog = ndvol.open(tmp_path / "moved" / path.name)
    assert len(parses) == 1
    assert catalog.record("cäse-1").path == str(tmp_path / "moved" / "volumes" / "1.h5")


def test_a_damaged_cache_is_as_good_as_none(coco):
    path, parses = coco
    expected = facts(ndvol.open(path))
    file = cache.cache_path(path)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for size in (0, 10, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:size])
        assert facts(ndvol.open(path)) == expected
    for at in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        assert facts(ndvol.open(path)) == expected
    file.write_bytes(b"PK" + pickle.dumps({"key": 1}))
    assert facts(ndvol.open(path)) == expected
    assert len(parses) > 5


def test_a_folder_that_cannot_be_written_costs_only_time(coco, monkeypatch):
    path, parses = coco

    def refuse(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr(cache.np, "savez", refuse)
    assert facts(ndvol.open(path)) == facts(ndvol.open(path))
    assert len(parses) == 2
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_small_catalogues_leave_no_file(coco, monkeypatch):
    path, _ = coco
    monkeypatch.setattr(cache, "LEAST_BYTES", 2**20)
    ndvol.open(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_names_that_are_given_twice(coco):
    path, _ = coco
    path.write_text(path.read_text().replace(json.dumps("cäse-2"), json.dumps("cäse-1")))
    with pytest.raises(CatalogError, match="not unique"):
        ndvol.open(path)
