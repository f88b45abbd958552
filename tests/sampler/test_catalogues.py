"""Sampling from real catalogues: what was examined in which case, and pictures whose boxes overlap."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ndvol.errors import SamplingError
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid, Window
from ndvol.importing import ImportOptions, import_tree
from ndvol.opening import open_catalog
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Mix, Negative, Positive, Target


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examined")
    grid = Grid.regular("zyx", (6, 8, 10), spacing=(2, 1, 1))
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        labels = np.zeros((6, 8, 10), np.uint8)
        labels[1:3, 2:5, 2:6] = 1
        write_nifti(folder / "raw" / "images" / f"{name}.nii.gz", rng.integers(0, 9, grid.shape).astype(np.int16), grid)
        write_nifti(folder / "raw" / "labels" / f"{name}.nii.gz", labels, grid)
    categories = ({"name": "liver", "value": 1}, {"name": "tumour", "value": 2})
    import_tree(folder / "raw", folder / "bundle", options=ImportOptions(categories=categories))
    return folder / "bundle"


def edited(bundle, tmp_path, edit):
    data = json.loads((bundle / "data.kwcoco.json").read_text())
    for image in data["images"]:
        image["file_name"] = str(bundle / image["file_name"])
        edit(image["name"], image["ndvol"])
    (tmp_path / "edited.kwcoco.json").write_text(json.dumps(data))
    return open_catalog(tmp_path / "edited.kwcoco.json")


def drawn_cases(catalog, categories):
    sampler = VolumeSampler(catalog, (2, 2, 2), strategy=Negative(categories), length=40)
    return {sampler.target(i).case for i in range(40)}


def test_the_importer_lists_what_the_label_volumes_name(bundle):
    catalog = open_catalog(bundle)
    assert {record.examined for record in catalog.records.values()} == {("liver", "tumour")}
    # Nobody has a tumour, but everybody was examined for one.
    assert drawn_cases(catalog, "tumour") == {"a", "b"}


def test_a_case_that_was_not_examined_gives_no_negatives(bundle, tmp_path):
    def edit(name, facts):
        if name == "a":
            facts["examined"] = ["liver"]

    catalog = edited(bundle, tmp_path, edit)
    assert drawn_cases(catalog, "tumour") == {"b"}
    assert drawn_cases(catalog, "liver") == {"a", "b"}


def test_a_catalogue_that_does_not_say_means_what_its_label_volumes_name(bundle, tmp_path):
    catalog = edited(bundle, tmp_path, lambda name, facts: facts.pop("examined"))
    assert {record.examined for record in catalog.records.values()} == {None}
    assert drawn_cases(catalog, "tumour") == {"a", "b"}


def test_a_refused_label_leaves_open_what_it_would_have_shown(bundle, tmp_path):
    def edit(name, facts):
        if name == "a":
            facts["refused_labels"] = 1
        del facts["examined"]

    assert drawn_cases(edited(bundle, tmp_path, edit), "tumour") == {"b"}


def test_nobody_was_examined(bundle, tmp_path):
    catalog = edited(bundle, tmp_path, lambda name, facts: facts.update(examined=[]))
    with pytest.raises(SamplingError, match="negatives need cases with labels"):
        VolumeSampler(catalog, (2, 2, 2), strategy=Negative())


@pytest.fixture
def picture(tmp_path):
    """A dog that a car hides wholly in a painted picture, and two dogs that overlap."""
    Image.fromarray(np.arange(30 * 40, dtype=np.uint8).reshape(30, 40)).save(tmp_path / "p.png")
    boxes = [("car", [2, 2, 20, 20]), ("dog", [4, 4, 6, 5]), ("wheel", [4, 4, 6, 5]), ("dog", [8, 6, 9, 9])]
    names = ["car", "dog", "wheel"]
    data = {
        "images": [{"id": 1, "file_name": "p.png", "width": 40, "height": 30}],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": k + 1, "image_id": 1, "category_id": names.index(name) + 1, "bbox": box}
            for k, (name, box) in enumerate(boxes)
        ],
    }
    (tmp_path / "data.kwcoco.json").write_text(json.dumps(data))
    masks = {name: np.zeros((30, 40), bool) for name in names}
    for name, (x, y, width, height) in boxes:
        masks[name][y : y + height, x : x + width] = True
    return open_catalog(tmp_path), masks


def test_boxes_that_hide_each_other_are_judged_by_themselves(picture):
    catalog, masks = picture
    painted = np.asarray(catalog["p.png"].labels["boxes"])
    assert (painted == 2).sum() < masks["dog"].sum(), "the painted picture must hide some of the dogs"
    for name, mask in masks.items():
        mix = Mix({Positive(name): 1, Negative(name): 1, Positive(name, by="object", window_dims="extent"): 1})
        sampler = VolumeSampler(catalog, (3, 3), strategy=mix, length=150)
        points = set()
        for i in range(len(sampler)):
            target = sampler.target(i)
            inside = mask[target.window.clip(mask.shape).inside]
            assert inside.any() == (target.role == "positive")
            if target.point is not None:
                assert mask[target.point]
                points.add(target.point)
            if target.object is not None:
                assert inside.all()
        assert len(points) > 20


def test_a_box_is_visible_by_its_share(picture):
    catalog, _ = picture
    sampler = VolumeSampler(catalog, (3, 3))
    found = sampler.load_sample(Target("p.png", Window((4, 4), (5, 3)))).annotations
    shares = {(a.category, a.object): a.visible for a in found}
    assert shares == {("car", 0): 15 / 400, ("dog", 1): 0.5, ("wheel", 2): 0.5}
