"""The catalogue: kwcoco in and out, plain pictures, and what kwcoco's own tools leave of it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from ndvol.catalog import CaseRecord, Catalog, Objects, RecordTable, coco_from_records, columns_from_coco
from ndvol.categories import CategoryTree
from ndvol.demo import write_toy_sources
from ndvol.errors import CatalogError, CategoryError, SourceError, UnknownNameError
from ndvol.importing import ImportOptions, import_tree, read_categories
from ndvol.opening import open_catalog
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Mix, Negative, Positive

kwcoco = pytest.importorskip("kwcoco")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog")
    raw = write_toy_sources(folder / "raw", seed=5)
    options = ImportOptions(categories=read_categories(raw / "categories.json"), modality="CT")
    import_tree(raw, folder / "bundle", options=options)
    return folder / "bundle"


def draws(catalog, case):
    """What the sampler reads of one case; depends on the case alone."""
    sampler = VolumeSampler(
        catalog.subset([case]), (8, 24, 24), strategy=Mix({Positive("lesion"): 1, Negative("lesion"): 1}), seed=3
    )
    samples = [sampler[i] for i in range(6)]
    return [(s.target.window, s.images["CT"].tobytes(), s.labels["labels"].tobytes()) for s in samples]


def assert_same_cases(path, original, names):
    """Every file is found again and gives equal samples, whatever the tool did to names and paths."""
    catalog = open_catalog(path)
    by_uuid = {r.attributes["uuid"]: r.name for r in catalog.records.values()}
    for name in names:
        record = original.record(name)
        again = by_uuid[record.attributes["uuid"]]
        assert catalog.record(again).sha256 == record.sha256
        if record.labels:
            assert draws(catalog, again) == draws(original, name)
        else:
            np.testing.assert_array_equal(catalog[again].images["CT"], original[name].images["CT"])
    return catalog


def test_kwcoco_finds_the_catalogue_valid(bundle):
    dataset = kwcoco.CocoDataset(str(bundle / "data.kwcoco.json"))
    result = dataset.validate(verbose=0, missing=True, corrupted=True)
    assert not result["errors"]
    assert dataset.n_images == 6
    assert all(len(a["bbox"]) == 4 for a in dataset.dataset["annotations"])
    assert {c["supercategory"] for c in dataset.dataset["categories"]} == {None, "organ", "finding", "lesion"}


def test_subset_and_union_keep_volumes_and_samples(bundle, tmp_path):
    original = open_catalog(bundle)
    dataset = kwcoco.CocoDataset(str(bundle / "data.kwcoco.json"))
    part = dataset.subset([2, 4, 5])
    part.reroot(absolute=True)
    part.fpath = str(tmp_path / "part.kwcoco.json")
    part.dump(part.fpath)
    names = [dataset.imgs[i]["name"] for i in (2, 4, 5)]
    assert_same_cases(tmp_path / "part.kwcoco.json", original, names)
    assert_same_cases(part, original, names)
    with pytest.warns(UserWarning, match="renamed"):
        both = kwcoco.CocoDataset.union(dataset, part)
    both.reroot(absolute=True)
    both.fpath = str(tmp_path / "both.kwcoco.json")
    both.dump(both.fpath)
    catalog = open_catalog(tmp_path / "both.kwcoco.json")
    assert len(catalog) == 9, "a case that is in both is there twice, under two names"
    assert_same_cases(tmp_path / "both.kwcoco.json", original, list(original))


@pytest.mark.slow
def test_every_kwcoco_command_accepts_a_bundle(bundle, tmp_path):
    pytest.importorskip("kwplot")
    data, original = str(bundle / "data.kwcoco.json"), open_catalog(bundle)
    # fixup keeps relative paths as they are, so its result belongs beside its source.
    copy = shutil.copytree(bundle, tmp_path / "bundle") / "fixed.kwcoco.json"

    def run(*arguments):
        command = [sys.executable, "-m", "kwcoco", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "MPLBACKEND": "agg"}
        )
        assert done.returncode == 0, done.stderr[-2000:]

    run("validate", data)
    run("validate", data, "--corrupted=True")
    run("stats", data)
    run("show", "--src", data, "--gid", 1, "--dst", tmp_path / "show.png")
    run("visualize", data, "--viz_dpath", tmp_path / "viz")
    assert (tmp_path / "show.png").is_file()
    assert list((tmp_path / "viz").rglob("*.jpg"))
    run("fixup", copy.with_name("data.kwcoco.json"), "--dst", copy, "--inplace=False")
    assert_same_cases(copy, original, list(original))
    run("subset", "--src", data, "--dst", tmp_path / "sub.kwcoco.json", "--select_images", ".id >= 3")
    assert len(assert_same_cases(tmp_path / "sub.kwcoco.json", original, list(original)[2:])) == 4
    run("union", "--src", data, tmp_path / "sub.kwcoco.json", "--dst", tmp_path / "union.kwcoco.json")
    assert len(assert_same_cases(tmp_path / "union.kwcoco.json", original, list(original))) == 10
    halves = [tmp_path / "train.kwcoco.json", tmp_path / "test.kwcoco.json"]
    run("split", "--src", data, "--dst1", halves[0], "--dst2", halves[1], "--factor", 3)
    assert sum(len(open_catalog(half)) for half in halves) == 6
    (tmp_path / "moved").mkdir()
    run("move", copy, tmp_path / "moved" / "data.kwcoco.json")
    assert_same_cases(tmp_path / "moved", original, list(original))


def test_records_go_to_kwcoco_and_back(bundle):
    catalog = open_catalog(bundle)
    data = coco_from_records(catalog.records.values(), catalog.categories, bundle.absolute())
    assert data == json.loads((bundle / "data.kwcoco.json").read_text())
    records = RecordTable(columns_from_coco(data), bundle.absolute())
    assert records.categories == catalog.categories
    for ours, theirs in zip(records.values(), catalog.records.values(), strict=True):
        assert (ours.name, ours.path, ours.shape, ours.spacing) == (
            theirs.name,
            theirs.path,
            theirs.shape,
            theirs.spacing,
        )


def test_a_zipped_catalogue_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    text = json.dumps({"images": [], "annotations": [], "categories": [], "info": "x" * 2**20})
    with zipfile.ZipFile(tmp_path / "data.kwcoco.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.kwcoco.json", text)
    assert len(open_catalog(tmp_path / "data.kwcoco.zip")) == 0
    monkeypatch.setattr("ndvol.catalog.coco.FREE_UNPACKED", 2**19)
    with pytest.raises(CatalogError, match="unpacks to far more"):
        open_catalog(tmp_path / "data.kwcoco.zip")


@pytest.mark.parametrize("name", ["fifo.png", "/dev/zero", "..", "text.png", "a\0b.png", "link.png", "gone.png"])
def test_nothing_but_pictures_is_read_by_a_name(tmp_path, name):
    os.mkfifo(tmp_path / "fifo.png")  # to open it would take for ever
    (tmp_path / "text.png").write_text("secret")
    (tmp_path / "link.png").symlink_to(tmp_path / "text.png")
    image = {"id": 1, "file_name": name, "width": 4, "height": 4, "name": "a"}
    (tmp_path / "data.kwcoco.json").write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    with pytest.raises(SourceError, match=r"there is no picture|cannot open picture") as caught:
        open_catalog(tmp_path)["a"]
    assert "secret" not in str(caught.value)


def test_a_zipped_catalogue_opens(bundle, tmp_path):
    data = json.loads((bundle / "data.kwcoco.json").read_text())
    for image in data["images"]:
        image["file_name"] = str(bundle / image["file_name"])
    with zipfile.ZipFile(tmp_path / "data.kwcoco.zip", "w") as archive:
        archive.writestr("data.kwcoco.json", json.dumps(data))
    assert_same_cases(tmp_path / "data.kwcoco.zip", open_catalog(bundle), ["toy-0"])


@pytest.fixture
def pictures(tmp_path):
    """A plain kwcoco file of two pictures, one in colour, as ndsampler users have them."""
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 255, (30, 40), np.uint8), rng.integers(0, 255, (20, 24, 3), np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(grey).save(tmp_path / "images" / "grey.png")
    Image.fromarray(colour).save(tmp_path / "images" / "colour.png")
    data = {
        "categories": [
            {"id": 1, "name": "animal"},
            {"id": 7, "name": "cat", "supercategory": "animal"},
            {"id": 9, "name": "dog", "supercategory": "animal"},
        ],
        "images": [
            {"id": 1, "name": "grey", "file_name": "images/grey.png", "width": 40, "height": 30},
            {"id": 2, "file_name": "images/colour.png", "width": 24, "height": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [4.2, 5, 6, 7.5]},
            {"id": 2, "image_id": 1, "category_id": 9, "bbox": [-3, -3, 8, 8]},
            {"id": 3, "image_id": 2, "category_id": 9},
        ],
    }
    (tmp_path / "plain.kwcoco.json").write_text(json.dumps(data))
    return tmp_path / "plain.kwcoco.json", grey, colour


def test_plain_pictures_are_2d_cases(pictures):
    path, grey, colour = pictures
    catalog = open_catalog(path)
    assert list(catalog) == ["grey", "images/colour.png"]
    np.testing.assert_array_equal(catalog["grey"].images["image"], grey)
    image = catalog["images/colour.png"].images["image"]
    assert (image.axes, image.shape) == ("cyx", (3, 20, 24))
    np.testing.assert_array_equal(np.moveaxis(np.asarray(image), 0, -1), colour)
    objects = catalog.record("grey").objects
    assert objects.start.tolist() == [[5, 4], [0, 0]]
    assert objects.stop.tolist() == [[13, 11], [5, 5]]
    boxes = catalog["grey"].labels["boxes"]
    assert boxes.categories == {1: "animal", 2: "cat", 3: "dog"}
    assert (np.asarray(boxes) == 2).sum() == 8 * 7
    assert (np.asarray(catalog["images/colour.png"].labels["boxes"]) == 3).all()


def test_plain_pictures_are_sampled(pictures):
    path, grey, _ = pictures
    catalog = open_catalog(kwcoco.CocoDataset(str(path)))
    one = Catalog([catalog.record("grey")], catalog.categories, catalog._open_case)
    sampler = VolumeSampler(one, (8, 8), strategy=Positive("animal"), seed=0)
    for i in range(20):
        sample = sampler[i]
        assert sample.labels["boxes"].any()
        assert {a.category for a in sample.annotations} <= {"cat", "dog"}
        y, x = sample.target.window.start
        np.testing.assert_array_equal(sample.images["image"], grey[y : y + 8, x : x + 8])
    for i in range(20):
        assert not sampler.load_negative(i).labels["boxes"].any()


def test_supercategories_that_are_no_categories_become_some_as_in_kwcoco(pictures):
    import kwcoco

    path = pictures[0]
    data = json.loads(path.read_text())
    data["categories"] = [{**row, "supercategory": "thing"} for row in data["categories"]]
    path.write_text(json.dumps(data))
    catalog = open_catalog(path)
    theirs = kwcoco.CocoDataset(str(path)).object_categories()
    edges = {(catalog.categories.ancestors(name)[0], name) for name in catalog.categories if name != "thing"}
    assert edges == set(theirs.graph.edges)
    assert set(catalog.categories) == set(theirs.graph.nodes)
    sampler = VolumeSampler(catalog, (8, 8), strategy=Positive("thing"))
    assert sampler[0].target.role == "positive"


def test_a_missing_or_changed_picture_is_named(pictures):
    path, _, colour = pictures
    catalog = open_catalog(path)
    Image.fromarray(colour[:10]).save(path.parent / "images" / "colour.png")
    with pytest.raises(CatalogError, match="another size"):
        catalog["images/colour.png"]
    (path.parent / "images" / "grey.png").unlink()
    with pytest.raises(SourceError, match=r"no picture .*grey\.png"):
        catalog["grey"]


def edited(bundle, tmp_path, edit):
    data = json.loads((bundle / "data.kwcoco.json").read_text())
    for image in data["images"]:
        image["file_name"] = str(bundle / image["file_name"])
    edit(data)
    (tmp_path / "edited.kwcoco.json").write_text(json.dumps(data))
    return tmp_path / "edited.kwcoco.json"


@pytest.mark.parametrize("escape", ["../../secret.h5", "/etc/secret.h5"])
def test_a_volume_outside_its_folder_is_refused(bundle, tmp_path, escape):
    path = edited(bundle, tmp_path, lambda d: d["images"][0]["ndvol"].update(file=escape))
    with pytest.raises(CatalogError, match="outside its folder"):
        open_catalog(path)


@pytest.mark.parametrize(
    ("edit", "error", "reason"),
    [
        (lambda d: d["images"][0]["ndvol"].pop("shape"), CatalogError, "cannot be understood"),
        (lambda d: d["images"].append(dict(d["images"][0])), CatalogError, "not unique"),
        (lambda d: d["annotations"][0].update(category_id=999), CatalogError, "cannot be understood"),
        (lambda d: d["categories"][0].update(supercategory=d["categories"][0]["name"]), CategoryError, "cycle"),
    ],
)
def test_a_broken_catalogue_is_refused_by_name(bundle, tmp_path, edit, error, reason):
    path = edited(bundle, tmp_path, edit)
    with pytest.raises(error, match=reason):
        open_catalog(path)


def test_no_catalogue_and_no_json_are_refused(tmp_path):
    with pytest.raises(CatalogError, match=r"no data\.kwcoco\.json"):
        open_catalog(tmp_path)
    (tmp_path / "x.kwcoco.json").write_text("{")
    with pytest.raises(CatalogError, match="not readable"):
        open_catalog(tmp_path / "x.kwcoco.json")
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(CatalogError, match="no list of images"):
        open_catalog(tmp_path / "empty.json")
    with pytest.raises(CatalogError, match="no bundle"):
        open_catalog(tmp_path / "nowhere")


def test_a_case_that_is_not_there_is_named(bundle):
    catalog = open_catalog(bundle)
    with pytest.raises(UnknownNameError, match="did you mean 'toy-0'"):
        catalog["toy0"]
    with pytest.raises(UnknownNameError, match=r"has no volume 'MR'.*CT, labels"):
        catalog["toy-0"]["MR"]


def test_the_catalogue_pickles(bundle):
    catalog = open_catalog(bundle)
    again = pickle.loads(pickle.dumps(catalog))
    assert list(again) == list(catalog)
    np.testing.assert_array_equal(again["toy-1"]["CT"], catalog["toy-1"]["CT"])


def test_names_must_be_unique():
    empty = np.empty(0, np.int64)
    objects = Objects(empty, empty, empty, empty.reshape(0, 2), empty.reshape(0, 2), empty)
    record = CaseRecord("a", "", "yx", (2, 2), (1.0, 1.0), "unknown", ("image",), (), objects)
    with pytest.raises(CatalogError, match="not unique"):
        Catalog([record, record], CategoryTree.from_coco([]), lambda r: None)


def test_a_subset_holds_its_cases_alone_and_draws_from_them_alone(bundle):
    catalog = open_catalog(bundle)
    names = ["toy-2", "toy-0"]
    fold = catalog.subset(name for name in names)
    assert list(fold) == names
    assert fold.verdicts == catalog.verdicts
    sampler = VolumeSampler(fold, (8, 24, 24), strategy=Positive("lesion"), length=50)
    assert {sampler.target(k).case for k in range(50)} == set(names)
    assert list(pickle.loads(pickle.dumps(fold))) == names
    with pytest.raises(UnknownNameError, match="toy-9"):
        catalog.subset(["toy-0", "toy-9"])
    with pytest.raises(CatalogError, match="not unique"):
        catalog.subset(["toy-0", "toy-0"])
