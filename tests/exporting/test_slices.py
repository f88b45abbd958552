"""The slice export and its way back: equal voxels, labels, geometry and categories, whatever was in between."""

from __future__ import annotations

import json
import shutil
import warnings

import bundles
import numpy as np
import pytest
from click.testing import CliRunner

from ndvol.cli import main
from ndvol.errors import ImportFailedError, OptionError, StoreError
from ndvol.exporting import export_slices
from ndvol.formats.rle import mask_of_rle, rle_of_mask
from ndvol.importing import ImportOptions, import_tree
from ndvol.opening import open_catalog

kwcoco = pytest.importorskip("kwcoco")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return open_catalog(bundles.make_bundle(tmp_path_factory.mktemp("slices") / "bundle"))


@pytest.fixture(scope="module")
def exported(original, tmp_path_factory):
    return export_slices(original, tmp_path_factory.mktemp("slices") / "out")


def assert_equal_cases(one, other):
    assert list(one.images) == list(other.images)
    assert sorted(one.labels) == sorted(other.labels)
    for name, image in one.images.items():
        again = other.images[name]
        assert (image.dtype, image.grid) == (again.dtype, again.grid)
        np.testing.assert_array_equal(image[...], again[...])
        facts = {k: v for k, v in image.attributes.items() if k != "reorientation"}
        assert facts.items() <= dict(again.attributes).items()
    for name, label in one.labels.items():
        again = other.labels[name]
        assert (label.dtype, label.grid, label.categories) == (again.dtype, again.grid, again.categories)
        np.testing.assert_array_equal(label[...], again[...])
        assert label.attributes.get("source_names") == again.attributes.get("source_names")


def rows(record):
    objects = record.objects
    return sorted(np.c_[objects.category, objects.value, objects.voxels, objects.start, objects.stop].tolist())


def test_everything_comes_back(original, exported, tmp_path):
    again = import_tree(exported.parent, tmp_path / "back")
    assert [v for v in again.verdicts if v.status != "imported"] == []
    assert sorted(again) == sorted(original) == sorted(bundles.CASES)
    assert str(again.categories) == str(original.categories)
    for name in original:
        assert_equal_cases(original[name], again[name])
        assert rows(original.record(name)) == rows(again.record(name))


def test_a_volume_kept_as_it_was_comes_back_as_it_was_or_canonical(tmp_path):
    folder = bundles.make_bundle(tmp_path / "bundle", ("ct",))
    path = folder / "volumes" / "ct.h5"
    turned = bundles.grid_of("zyx", (5, 20, 24)).flip(0).permute((1, 0, 2))
    voxels = np.arange(20 * 5 * 24, dtype=np.int16).reshape(turned.shape)
    labels = bundles.blobs(turned.shape, 3)
    with bundles.CaseWriter(path, case="ct", uuid="turned") as writer:
        writer.add_image("CT", voxels, turned, attributes={"modality": "CT", "value_unit": "HU"})
        writer.add_label("organs", labels, turned, categories=bundles.CATEGORIES)
        writer.set_provenance({})
    record = bundles.describe_case(path, bundles.file_sha256(path), bundles.TREE)
    coco = bundles.coco_from_records([record], bundles.TREE, folder)
    (folder / "data.kwcoco.json").write_text(json.dumps(coco))
    source = export_slices(open_catalog(folder), tmp_path / "out").parent
    native = import_tree(source, tmp_path / "native", options=ImportOptions(orientation="native"))["ct"]
    assert_equal_cases(open_catalog(folder)["ct"], native)
    canonical = import_tree(source, tmp_path / "canonical")["ct"]
    assert canonical.images["CT"].shape == (5, 20, 24)
    np.testing.assert_array_equal(canonical.images["CT"][...], voxels.transpose(1, 0, 2)[::-1])
    np.testing.assert_array_equal(canonical.labels["organs"][...], labels.transpose(1, 0, 2)[::-1])


def test_images_and_labels_on_other_grids_have_videos_of_their_own(tmp_path):
    folder = bundles.make_pet_ct(tmp_path / "bundle")
    target = export_slices(open_catalog(folder), tmp_path / "out")
    videos = json.loads(target.read_text())["videos"]
    assert [(v["name"], list(v["ndvol"]["labels"])) for v in videos] == [("ct", ["organs"]), ("ct.PET", ["uptake"])]
    again = import_tree(target.parent, tmp_path / "back")
    assert [v for v in again.verdicts if v.status != "imported"] == []
    assert list(again) == ["ct"]
    assert_equal_cases(open_catalog(folder)["ct"], again["ct"])


def test_kwcoco_finds_the_export_valid_and_reads_it(original, exported):
    dataset = kwcoco.CocoDataset(str(exported))
    result = dataset.validate(verbose=0, missing=True, corrupted=True)
    assert not result["errors"]
    assert [v["name"] for v in dataset.dataset["videos"]] == list(original)
    assert dataset.n_images == sum(int(np.prod(shape[:-2])) for _, shape, _, _ in bundles.CASES.values())
    volume = original["ct"].images["CT"][...]
    for gid in dataset.index.vidid_to_gids[1]:
        frame = dataset.coco_image(gid)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it would prefer GDAL
            read = frame.imdelay().finalize()
        np.testing.assert_array_equal(read[..., 0], volume[frame["frame_index"]])


def test_masks_and_boxes_of_all_slices_make_up_the_labels(original, exported):
    dataset = kwcoco.CocoDataset(str(exported))
    checked = 0
    for video in dataset.dataset["videos"]:
        case = original[video["name"]]
        for name, label in case.labels.items():
            found = np.zeros(label.shape, label.dtype)
            for gid in dataset.index.vidid_to_gids[video["id"]]:
                axes, shape = video["ndvol"]["axes"], video["ndvol"]["shape"]
                at = dict(zip(axes, np.unravel_index(dataset.imgs[gid]["frame_index"], shape[:-2]), strict=False))
                plane = found[tuple(at[a] for a in label.axes if a in at)]
                for aid in dataset.index.gid_to_aids[gid]:
                    annotation = dataset.anns[aid]
                    track = dataset.index.tracks[annotation["track_id"]]["ndvol"]
                    if track["label"] == name:
                        mask = mask_of_rle(annotation["segmentation"], plane.shape)
                        ys, xs = np.nonzero(mask)
                        assert annotation["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
                        assert dataset.cats[annotation["category_id"]]["name"] == label.categories[track["value"]]
                        plane[mask] = track["value"]
                        checked += 1
            np.testing.assert_array_equal(found, label[...])
    assert checked > 100


def test_kwcoco_tools_in_between_change_nothing(original, exported, tmp_path):
    dataset = kwcoco.CocoDataset(str(exported))
    names = {v["name"]: v["id"] for v in dataset.dataset["videos"]}
    parts = []
    for part in (("ct", "time"), ("two",)):
        gids = [gid for name in part for gid in dataset.index.vidid_to_gids[names[name]]]
        parts.append(dataset.subset(gids))
        parts[-1].reroot(absolute=True)
    both = kwcoco.CocoDataset.union(*parts)
    folder = shutil.copytree(exported.parent, tmp_path / "moved")
    text = json.dumps(both.dataset).replace(str(exported.parent), str(folder))
    (folder / "data.kwcoco.json").write_text(text)
    again = import_tree(folder, tmp_path / "back")
    found = {v.case for v in again.verdicts if "#" in v.source}
    assert found == {"ct", "time", "two"}
    for name in found:
        assert_equal_cases(original[name], again[name])


def bring_back(target, folder):
    """The cases and the verdicts of an import, also when nothing could be imported."""
    try:
        catalog = import_tree(target.parent, folder)
    except ImportFailedError as error:
        return {}, error.verdicts
    return catalog, catalog.verdicts


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data["images"].pop(2), "incomplete"),
        (lambda data: data["images"][3].update(frame_index=2), "incomplete"),
        (lambda data: data["videos"][0]["ndvol"].pop("affine"), "unreadable"),
        (lambda data: data["videos"][0]["ndvol"].update(affine=[[1, 0], [0, 1]]), "unreadable"),
        (lambda data: data["videos"][0]["ndvol"].update(slices="9.0"), "source"),
        (lambda data: data["videos"][0]["ndvol"]["images"]["CT"].update(dtype="object"), "source"),
        (lambda data: data["videos"][0]["ndvol"]["images"]["CT"].update(dtype="uint8"), "changed"),
        (lambda data: data["videos"][0]["ndvol"]["labels"]["organs"].update(axes="zxy"), "source"),
        (lambda data: data["images"][0].update(file_name="../../elsewhere.tif"), "source"),
        (lambda data: data["images"].append("no image"), "unreadable"),
    ],
)
def test_what_is_not_whole_is_refused(tmp_path, change, code):
    target = export_slices(open_catalog(bundles.make_bundle(tmp_path / "bundle", ("ct",))), tmp_path / "out")
    data = json.loads(target.read_text())
    change(data)
    target.write_text(json.dumps(data))
    found, verdicts = bring_back(target, tmp_path / "back")
    assert code in {v.code for v in verdicts if v.status == "refused"}, verdicts
    assert "ct" not in found
    assert not any(v.case for v in verdicts if "#" in v.source)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data["annotations"][0].update(segmentation={"size": [20, 24], "counts": [9999]}), "source"),
        (lambda data: data["annotations"][0].update(segmentation=[[0, 0, 5, 0, 5, 5]]), "source"),
        (lambda data: data["annotations"][0].pop("track_id"), "unlabelled"),
        (lambda data: data["tracks"][0].update(ndvol={"label": "organs"}), "unreadable"),
        (lambda data: data["tracks"][0]["ndvol"].update(value="x"), "unreadable"),
    ],
)
def test_labels_that_make_no_sense_are_refused_without_their_image(original, tmp_path, change, code):
    target = export_slices(open_catalog(bundles.make_bundle(tmp_path / "bundle", ("ct",))), tmp_path / "out")
    data = json.loads(target.read_text())
    change(data)
    target.write_text(json.dumps(data))
    found, verdicts = bring_back(target, tmp_path / "back")
    assert [(v.source.rpartition("#")[2], v.code) for v in verdicts if v.status == "refused"] == [("ct/labels", code)]
    assert not found["ct"].labels
    np.testing.assert_array_equal(found["ct"].images["CT"][...], original["ct"].images["CT"][...])


def test_a_video_given_twice_is_imported_once(original, tmp_path):
    target = export_slices(open_catalog(bundles.make_bundle(tmp_path / "bundle", ("ct",))), tmp_path / "out")
    data = json.loads(target.read_text())
    data["videos"].append({**data["videos"][0], "id": 99, "name": "copy"})
    data["images"] += [{**row, "id": row["id"] + 100, "video_id": 99} for row in data["images"]]
    target.write_text(json.dumps(data))
    found, verdicts = bring_back(target, tmp_path / "back")
    assert list(found) == ["ct"]
    assert_equal_cases(original["ct"], found["ct"])
    assert [v.code for v in verdicts if v.status == "refused"] == ["twice"]


def test_a_mask_that_was_edited_counts_and_is_told(tmp_path):
    folder = bundles.make_bundle(tmp_path / "bundle", ("ct",))
    target = export_slices(open_catalog(folder), tmp_path / "out")
    data = json.loads(target.read_text())
    before = open_catalog(folder)["ct"].labels["organs"][...]
    row = next(a for a in data["annotations"] if a["bbox"][2] > 1)
    z = data["images"][row["image_id"] - 1]["frame_index"]
    mask = mask_of_rle(row["segmentation"], (20, 24))
    row["segmentation"] = rle_of_mask(
        np.zeros((20, 24), bool) | (mask & (np.arange(24) > row["bbox"][0])), (0, 0), (20, 24)
    )
    target.write_text(json.dumps(data))
    again = import_tree(target.parent, tmp_path / "back")
    assert any("voxels, of" in v.message for v in again.verdicts if v.status == "imported with warnings")
    expected = before.copy()
    expected[z, :, row["bbox"][0]][mask[:, row["bbox"][0]]] = 0
    np.testing.assert_array_equal(again["ct"].labels["organs"][...], expected)


def test_nothing_is_overwritten_and_pictures_are_refused(original, exported, tmp_path):
    with pytest.raises(StoreError, match="exists already"):
        export_slices(original, exported.parent)
    with pytest.raises(OptionError, match="is a picture"):
        export_slices(open_catalog(exported), tmp_path / "twice")
    assert not (tmp_path / "twice" / "data.kwcoco.json").exists()


def test_the_same_bundle_gives_the_same_bytes(original, exported, tmp_path):
    export_slices(original, tmp_path / "again")
    files = sorted(p.relative_to(exported.parent) for p in exported.parent.rglob("*.*"))
    assert len(files) > 20
    for file in files:
        assert (exported.parent / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_run_lengths_are_kwimages(tmp_path):
    kwimage = pytest.importorskip("kwimage")
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = tuple(int(n) for n in rng.integers(1, 12, 2))
        mask = rng.random(size) < rng.random()
        mask[tuple(rng.integers(0, size))] = True
        rle = rle_of_mask(mask, (0, 0), size)
        np.testing.assert_array_equal(mask_of_rle(rle, size), mask)
        np.testing.assert_array_equal(kwimage.Mask.coerce(rle).to_c_mask().data != 0, mask)


def test_the_command_exports_and_names_the_file(tmp_path):
    folder = bundles.make_bundle(tmp_path / "bundle", ("ct", "pair"))
    run = CliRunner().invoke(main, ["export", str(folder), str(tmp_path / "out"), "--to", "slices", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout) == {
        "folder": str(tmp_path / "out"),
        "form": "slices",
        "cases": 2,
        "refused": {},
    }
    again = CliRunner().invoke(main, ["export", str(folder), str(tmp_path / "out"), "--to", "slices"])
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert "export" in CliRunner().invoke(main, ["--help"]).stdout
    assert CliRunner().invoke(main, ["export", str(folder), str(tmp_path / "new")]).exit_code == 2
