"""From sources to a bundle: the right voxels in the right place, resumed, reproducible, and refused with a reason."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import ndvol
from ndvol.demo import CATEGORIES, make_toy, write_toy_sources
from ndvol.errors import CatalogError, CategoryError, ImportFailedError, OptionError, SourceError, StoreError
from ndvol.formats import readers
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid
from ndvol.importing import ImportOptions, import_tree, plan_import, read_categories
from ndvol.opening import open_catalog
from ndvol.store import verify_file

GRID = Grid.regular("zyx", (6, 10, 12), spacing=(3, 1, 1), origin=(-5, 4, 20))


@pytest.fixture(scope="session")
def toy_sources(tmp_path_factory):
    return write_toy_sources(tmp_path_factory.mktemp("toy") / "raw")


@pytest.fixture(scope="session")
def toy_options(toy_sources):
    return ImportOptions(categories=read_categories(toy_sources / "categories.json"), modality="CT")


@pytest.fixture(scope="session")
def toy_bundle(toy_sources, toy_options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy-bundle") / "bundle"
    import_tree(toy_sources, folder, options=toy_options)
    return folder


def small_pair(folder, *, value=1, label_grid=GRID, name="a"):
    image = np.arange(np.prod(GRID.shape), dtype=np.int16).reshape(GRID.shape)
    label = np.zeros(label_grid.shape, np.uint8)
    label[1:3, 2:5, 3:7] = value
    write_nifti(folder / "images" / f"{name}.nii.gz", image, GRID)
    write_nifti(folder / "labels" / f"{name}.nii.gz", label, label_grid)
    return image, label


def digests(folder):
    return {p.name: p.read_bytes() for p in sorted((folder / "volumes").glob("*.h5"))}


def test_voxels_keep_their_value_and_their_place_in_the_world(toy_sources, toy_bundle):
    catalog = open_catalog(toy_bundle)
    rng = np.random.default_rng(0)
    for name in ("toy-0", "toy-1", "toy-2"):
        source = nib.load(toy_sources / "nifti" / "images" / f"{name}.nii.gz")
        volume = catalog[name].images["CT"]
        assert volume.dtype == np.int16
        assert np.all(np.diag(volume.grid.direction[::-1]) > 0.9), "stored closest to z->S, y->P, x->L"
        for _ in range(50):
            index = tuple(int(rng.integers(n)) for n in source.shape)
            ras = nib.affines.apply_affine(source.affine, index)
            at = volume.grid.index(ras * (-1, -1, 1))
            np.testing.assert_allclose(at, np.round(at), atol=1e-3)
            assert volume[tuple(int(i) for i in np.round(at))] == source.dataobj[index]


def test_dicom_and_pictures_hold_the_toy(toy_bundle):
    catalog = open_catalog(toy_bundle)
    series = sorted(n for n in catalog if n.startswith("ct-"))
    volumes = [np.asarray(catalog[n].images["CT"]) for n in series]
    expected = [make_toy(volumes[0].shape, seed=len(name)).image for name in ("axial", "oblique")]
    assert {v.tobytes() for v in volumes} == {e.tobytes() for e in expected}
    stack, toy = catalog["stack"], make_toy(volumes[0].shape, seed=200)
    np.testing.assert_array_equal(stack.images["CT"], (toy.image.astype(int) + 1024).clip(0))
    np.testing.assert_array_equal(stack.labels["labels"], toy.labels)
    assert stack.images["CT"].grid.unit == "unknown"


def test_every_source_has_a_verdict_and_the_defect_is_named(toy_sources, toy_options, tmp_path):
    catalog = import_tree(toy_sources, tmp_path / "bundle", options=toy_options)
    by_source = {v.source: v for v in catalog.verdicts}
    defect = by_source["dicom/defective"]
    assert (defect.status, defect.code, defect.files) == ("refused", "missing-slices", 39)
    assert "a gap of 6.000 mm" in defect.message
    assert {v.status for s, v in by_source.items() if "defective" not in s} <= {"imported", "skipped"}
    assert by_source["categories.json"].code == "unknown-format"
    assert {v.case for v in catalog.verdicts if v.case} == set(catalog)
    # The bundle keeps them all, those of DICOM under pseudonyms.
    kept = open_catalog(tmp_path / "bundle").verdicts
    assert [(v.code, v.case, v.files) for v in kept] == [(v.code, v.case, v.files) for v in catalog.verdicts]
    assert not any("dicom" in v.source or "defective" in v.message for v in kept)
    assert {v.source for v in kept if v.case} >= {"nifti/images/toy-0.nii.gz", "pictures/images/stack"}


def test_the_category_table_becomes_the_tree(toy_bundle):
    tree = open_catalog(toy_bundle).categories
    assert set(tree.names) == {c["name"] for c in CATEGORIES}
    assert set(tree.descendants("finding")) == {"lesion", "cyst", "tumor", "calcification"}


def test_objects_of_the_catalogue_are_those_of_the_labels(toy_bundle):
    catalog = open_catalog(toy_bundle)
    for name, record in catalog.records.items():
        for label in catalog[name].labels.values():
            array = np.asarray(label)
            for value, category in label.categories.items():
                mine = record.objects.category == catalog.categories.index(category)
                assert record.objects.voxels[mine].sum() == (array == value).sum()
                for start, stop in zip(record.objects.start[mine], record.objects.stop[mine], strict=True):
                    box = array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] == value
                    assert all(box.any(tuple(j for j in range(3) if j != i))[[0, -1]].all() for i in range(3))


def test_the_preview_has_one_pixel_per_voxel(toy_bundle):
    from PIL import Image

    for record in open_catalog(toy_bundle).records.values():
        with Image.open(Path(record.path).with_suffix(".png")) as picture:
            assert picture.size == (record.shape[-1], record.shape[-2])


def test_two_processes_make_the_bytes_of_one(toy_sources, toy_options, toy_bundle, tmp_path):
    import_tree(toy_sources, tmp_path / "two", options=toy_options, jobs=2)
    assert digests(tmp_path / "two") == digests(toy_bundle)
    ours, theirs = ((f / "data.kwcoco.json").read_bytes() for f in (tmp_path / "two", toy_bundle))
    assert ours == theirs


@pytest.mark.parametrize("jobs", [0, 2])
def test_an_unchanged_source_is_not_read_again(toy_sources, toy_options, toy_bundle, tmp_path, monkeypatch, jobs):
    bundle = shutil.copytree(toy_bundle, tmp_path / "again")

    def never(*_, **__):
        raise AssertionError("a source was read")

    for reader in readers().values():
        monkeypatch.setattr(type(reader), "read", never)
    for decoder in ("dicom_pixels.stored_planes", "nifti._voxels", "picture_files.read_picture"):
        monkeypatch.setattr(f"ndvol.formats.{decoder}", never)
    monkeypatch.setattr("ndvol.importing.sources.file_sha256", never)
    monkeypatch.setattr("ndvol.importing.workers._Worker", never)
    before = written(bundle)
    catalog = import_tree(toy_sources, bundle, options=toy_options, jobs=jobs)
    assert written(bundle) == before
    assert (bundle / "data.kwcoco.json").read_bytes() == (toy_bundle / "data.kwcoco.json").read_bytes()
    assert [v.status for v in catalog.verdicts if v.case].count("unchanged") == 10
    assert len(before) == 12


def written(bundle):
    """Bytes of the volumes and their previews, and whether they are still the same files."""
    stats = {path: path.stat() for path in (bundle / "volumes").iterdir()}
    return {path: (path.read_bytes(), stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def test_a_touched_source_is_hashed_but_not_decoded(tmp_path, monkeypatch):
    small_pair(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "b")
    os.utime(tmp_path / "raw" / "images" / "a.nii.gz", ns=(1, 1))
    monkeypatch.setattr("ndvol.importing.labels.reader", None)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert list(catalog) == ["a"]


def test_a_changed_source_and_a_changed_option_are_noticed(tmp_path):
    image, _ = small_pair(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "b")
    write_nifti(tmp_path / "raw" / "images" / "a.nii.gz", image + 1, GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    np.testing.assert_array_equal(catalog["a"].images["image"], image + 1)
    before = digests(tmp_path / "b")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(objects="category"))
    assert digests(tmp_path / "b") != before
    assert catalog["a"].labels["labels"].attributes["objects"] == "category"


def test_a_changed_image_file_of_a_header_is_noticed(tmp_path):
    (tmp_path / "raw").mkdir()
    image = np.arange(np.prod(GRID.shape), dtype=np.int16).reshape(GRID.shape)
    for add in (0, 5):
        nib.save(nib.Nifti1Pair((image + np.int16(add)).T, np.eye(4)), tmp_path / "raw" / "a.hdr")
        catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(orientation="native"))
        np.testing.assert_array_equal(catalog["a"].images["image"], image + add)


def test_a_published_case_outlives_its_source(tmp_path):
    small_pair(tmp_path / "raw", name="a")
    small_pair(tmp_path / "raw", name="b")
    import_tree(tmp_path / "raw", tmp_path / "bundle")
    before = digests(tmp_path / "bundle")
    (tmp_path / "raw" / "images" / "a.nii.gz").write_bytes(b"broken")
    (tmp_path / "raw" / "images" / "b.nii.gz").unlink()
    small_pair(tmp_path / "raw", name="c")
    for _ in range(2):
        catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
        assert list(catalog) == ["a", "b", "c"]
        assert {n: d for n, d in digests(tmp_path / "bundle").items() if n != "c.h5"} == before
        assert {v.status for v in catalog.verdicts if v.source == "images/a.nii.gz"} == {"refused"}
        kept = open_catalog(tmp_path / "bundle").verdicts
        assert {v.status for v in kept if v.source == "images/a.nii.gz"} == {"imported", "refused"}
    (tmp_path / "bundle" / "volumes" / "b.h5").unlink()
    assert list(import_tree(tmp_path / "raw", tmp_path / "bundle")) == ["a", "c"]


def test_a_preview_is_never_that_of_an_older_file(tmp_path, monkeypatch):
    """Killed after the new file is published and before its preview is."""
    image, _ = small_pair(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "bundle")
    preview = tmp_path / "bundle" / "volumes" / "a.png"
    old = preview.read_bytes()
    write_nifti(tmp_path / "raw" / "images" / "a.nii.gz", image[::-1, ::-1], GRID)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ndvol.importing.case.write_preview", killed)
        with pytest.raises(KeyboardInterrupt):
            import_tree(tmp_path / "raw", tmp_path / "bundle")
    import_tree(tmp_path / "raw", tmp_path / "bundle")
    import_tree(tmp_path / "raw", tmp_path / "fresh")
    assert old != preview.read_bytes() == (tmp_path / "fresh" / "volumes" / "a.png").read_bytes()


def test_a_case_that_gets_another_name_is_not_there_twice(tmp_path):
    small_pair(tmp_path / "raw" / "one", name="a")
    assert list(import_tree(tmp_path / "raw", tmp_path / "bundle")) == ["a"]
    small_pair(tmp_path / "raw" / "two", name="a")
    for _ in range(2):
        assert list(import_tree(tmp_path / "raw", tmp_path / "bundle")) == ["one-images-a", "two-images-a"]


def test_a_damaged_case_is_made_again(tmp_path):
    small_pair(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "bundle")
    path = tmp_path / "bundle" / "volumes" / "a.h5"
    good = path.read_bytes()
    for position in (9, len(good) // 2):
        broken = bytearray(good)
        broken[position] ^= 8
        path.write_bytes(broken)
        os.utime(tmp_path / "raw" / "images" / "a.nii.gz", ns=(position, position))
        import_tree(tmp_path / "raw", tmp_path / "bundle")
        assert path.read_bytes() == good


def test_a_mask_is_named_by_folder_option_or_table(tmp_path):
    small_pair(tmp_path / "raw")
    images, labels = tmp_path / "raw" / "images", tmp_path / "raw" / "labels"
    assert import_tree(tmp_path / "raw", tmp_path / "b1").categories.names == ("labels",)
    (labels / "a.nii.gz").rename(labels / "other-name.nii.gz")
    options = ImportOptions(labels=str(labels), label_name="GTV-1")
    catalog = import_tree(images, tmp_path / "b2", options=options)
    assert catalog.categories.names == ("GTV-1",)
    assert catalog["a"].labels["GTV-1"].categories == {1: "GTV-1"}
    table = ({"name": "organ"}, {"name": "liver", "supercategory": "organ", "value": 1})
    catalog = import_tree(images, tmp_path / "b3", options=ImportOptions(labels=str(labels), categories=table))
    assert catalog.categories.names == ("organ", "liver")


def test_images_and_labels_of_the_same_name_in_two_folders(tmp_path):
    small_pair(tmp_path / "raw", name="a")
    small_pair(tmp_path / "raw", name="b")
    options = ImportOptions(labels=str(tmp_path / "raw" / "labels"))
    for status in ("imported", "unchanged"):
        catalog = import_tree(tmp_path / "raw" / "images", tmp_path / "bundle", options=options)
        assert [(v.source, v.case, v.status) for v in catalog.verdicts] == [
            ("a.nii.gz", "a", status),
            ("(labels) a.nii.gz", "a", status),
            ("b.nii.gz", "b", status),
            ("(labels) b.nii.gz", "b", status),
        ]
        assert all(case.labels["labels"].index.count(1) for case in catalog.values())


def test_names_that_a_file_system_takes_for_one_stay_apart(tmp_path):
    names = ("Foo", "foo", "foo-2", "caf\u00e9", "cafe\u0301")
    for k, name in enumerate(names):
        write_nifti(tmp_path / "raw" / f"{name}.nii", np.full(GRID.shape, k, np.int16), GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert len(catalog) == 5
    assert sorted(int(case.images["image"][0, 0, 0]) for case in catalog.values()) == [0, 1, 2, 3, 4]


def test_what_users_added_to_a_catalogue_is_not_replaced(tmp_path):
    small_pair(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "bundle")
    path = tmp_path / "bundle" / "data.kwcoco.json"
    data = json.loads(path.read_text())
    data["annotations"].append({"id": 99, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]})
    path.write_text(json.dumps(data))
    before = path.read_bytes()
    with pytest.raises(CatalogError, match="no import wrote"):
        import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert path.read_bytes() == before


def test_published_labels_are_not_taken_away(tmp_path):
    small_pair(tmp_path / "raw")
    images = tmp_path / "raw" / "images"
    options = ImportOptions(labels=str(tmp_path / "raw" / "labels"))
    import_tree(images, tmp_path / "bundle", options=options)
    before = digests(tmp_path / "bundle")
    with pytest.raises(ImportFailedError, match="would take away; got no source for labels"):
        import_tree(images, tmp_path / "bundle")
    assert digests(tmp_path / "bundle") == before
    assert list(open_catalog(tmp_path / "bundle")["a"].labels) == ["labels"]


def test_a_lone_label_of_another_name_is_paired_with_a_warning(tmp_path):
    small_pair(tmp_path / "raw")
    (tmp_path / "raw" / "labels" / "a.nii.gz").rename(tmp_path / "raw" / "labels" / "mask.nii.gz")
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    [verdict] = [v for v in catalog.verdicts if v.source == "labels/mask.nii.gz"]
    assert (verdict.status, verdict.case) == ("imported with warnings", "a")
    assert "paired with images/a.nii.gz, the only image, though their names differ" in verdict.message
    [again] = [v for v in import_tree(tmp_path / "raw", tmp_path / "bundle").verdicts if "mask" in v.source]
    assert (again.status, again.message) == ("unchanged", verdict.message)


def test_a_bug_costs_only_its_own_case(tmp_path, monkeypatch):
    small_pair(tmp_path / "raw", name="a")
    small_pair(tmp_path / "raw", name="b")
    write = ndvol.importing.case.write_preview

    def fail(path, *rest):
        if path.name == "a.h5":
            raise RuntimeError("a bug")
        return write(path, *rest)

    monkeypatch.setattr("ndvol.importing.case.write_preview", fail)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert {v.code for v in catalog.verdicts} == {"internal", "ok"}
    assert "b" in catalog


def test_two_labels_of_one_name_for_an_image_are_refused(tmp_path):
    _, label = small_pair(tmp_path / "raw")
    write_nifti(tmp_path / "raw" / "labels" / "a.nii", label, GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert sorted(v.code for v in catalog.verdicts) == ["label-name-taken", "ok", "ok"]


def test_a_file_name_that_is_no_text_harms_nothing(tmp_path):
    small_pair(tmp_path / "raw")
    Path(os.fsdecode(os.fsencode(tmp_path / "raw") + b"/caf\xe9.txt")).write_text("x")
    for _ in range(2):
        assert list(import_tree(tmp_path / "raw", tmp_path / "bundle")) == ["a"]


def test_a_damaged_case_does_not_stop_later_imports(tmp_path):
    small_pair(tmp_path / "one", name="a")
    small_pair(tmp_path / "two", name="b")
    import_tree(tmp_path / "one", tmp_path / "bundle")
    (tmp_path / "bundle" / "volumes" / "a.h5").write_bytes(b"damaged")
    catalog = import_tree(tmp_path / "two", tmp_path / "bundle")
    assert list(catalog) == ["b"]
    assert [v.code for v in catalog.verdicts if v.source == "volumes/a.h5"] == ["damage"]


def test_a_bundle_inside_its_source_is_no_source(tmp_path):
    small_pair(tmp_path / "raw")
    for _ in range(2):
        assert list(import_tree(tmp_path / "raw", tmp_path / "raw" / "bundle")) == ["a"]


def test_an_import_by_other_processes_is_seen_here(tmp_path):
    """The parent keeps files open that workers replace; it must not describe the old ones."""
    image, _ = small_pair(tmp_path / "raw")
    first = import_tree(tmp_path / "raw", tmp_path / "bundle", jobs=2)
    assert first["a"].images["image"][0, 0, 0] == image[0, 0, 0]
    label = np.zeros(GRID.shape, np.uint8)
    label[0, 0, 0] = 1
    write_nifti(tmp_path / "raw" / "images" / "a.nii.gz", image + 7, GRID)
    write_nifti(tmp_path / "raw" / "labels" / "a.nii.gz", label, GRID)
    second = import_tree(tmp_path / "raw", tmp_path / "bundle", jobs=2)
    assert second["a"].images["image"][0, 0, 0] == image[0, 0, 0] + 7
    assert second.record("a").objects.voxels.tolist() == [1]


def test_a_script_without_the_guard_for_workers_is_told(tmp_path):
    small_pair(tmp_path / "raw")
    script = tmp_path / "script.py"
    script.write_text(f"import ndvol\nndvol.import_tree({str(tmp_path / 'raw')!r}, {str(tmp_path / 'b')!r}, jobs=1)\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert "worker processes do not start" in done.stderr
    assert "put the call under `if __name__" in done.stderr


def test_labels_that_do_not_fit_are_refused_and_their_images_go_on(tmp_path):
    small_pair(tmp_path / "raw", name="good")
    small_pair(tmp_path / "raw", name="unnamed", value=9)
    small_pair(tmp_path / "raw", name="shifted", label_grid=Grid.regular("zyx", GRID.shape, spacing=(3, 1, 1)))
    small_pair(tmp_path / "raw", name="orphan")
    (tmp_path / "raw" / "images" / "orphan.nii.gz").unlink()
    options = ImportOptions(categories=({"name": "liver", "value": 1},))
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=options)
    assert {name: list(case.labels) for name, case in catalog.items()} == {
        "good": ["labels"],
        "shifted": [],
        "unnamed": [],
    }
    verdicts = {v.source: v for v in catalog.verdicts}
    assert verdicts["labels/unnamed.nii.gz"].code == "unnamed-values"
    assert verdicts["labels/shifted.nii.gz"].code == "label-off-grid"
    assert "origin [0.0, 0.0, 0.0]" in verdicts["labels/shifted.nii.gz"].message
    assert verdicts["labels/orphan.nii.gz"].code == "no-image-for-label"
    assert verdicts["images/good.nii.gz"].status == "imported"
    for name in ("unnamed", "shifted"):
        found, lost = verdicts[f"images/{name}.nii.gz"], verdicts[f"labels/{name}.nii.gz"]
        assert (found.status, lost.status, lost.case) == ("imported with warnings", "refused", name)
        assert found.message == (
            f"imported without the labels of labels/{name}.nii.gz ({lost.code}), which were refused"
        )


def test_two_folders_share_a_bundle_but_not_a_name(tmp_path):
    small_pair(tmp_path / "one", name="a")
    small_pair(tmp_path / "two", name="a", value=1)
    image = small_pair(tmp_path / "two", name="b")[0]
    write_nifti(tmp_path / "two" / "images" / "a.nii.gz", image + 5, GRID)
    import_tree(tmp_path / "one", tmp_path / "b")
    first = digests(tmp_path / "b")["a.h5"]
    catalog = import_tree(tmp_path / "two", tmp_path / "b")
    assert sorted(catalog) == ["a", "b"]
    assert digests(tmp_path / "b")["a.h5"] == first
    assert "name-taken" in {v.code for v in catalog.verdicts}


def test_the_plan_is_data_and_reads_no_pixel(toy_sources, toy_options, monkeypatch):
    monkeypatch.setattr("ndvol.formats.dicom.DicomReader.read", None)
    monkeypatch.setattr("ndvol.formats.nifti.NiftiReader.read", None)
    monkeypatch.setattr("ndvol.formats.pictures.PictureReader.read", None)
    plan = plan_import(toy_sources, toy_options)
    assert [c.name for c in plan.cases][2:] == ["stack", "toy-0", "toy-1", "toy-2"]
    assert {v.code for v in plan.verdicts} == {"missing-slices", "unknown-format"}
    assert all(v.series.shape == (40, 96, 112) for c in plan.cases for v in c.volumes)


def test_nothing_to_import_raises_with_the_reasons(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").write_text("hello")
    with pytest.raises(ImportFailedError, match=r"notes\.txt: no reader recognises it") as caught:
        import_tree(tmp_path / "raw", tmp_path / "b")
    assert [v.code for v in caught.value.verdicts] == ["unknown-format"]
    with pytest.raises(SourceError, match="there is no folder"):
        import_tree(tmp_path / "nowhere", tmp_path / "b")


def test_links_out_of_the_root_and_hidden_files_are_left_alone(tmp_path):
    small_pair(tmp_path / "raw")
    shutil.copy(tmp_path / "raw" / "images" / "a.nii.gz", tmp_path / "secret.nii.gz")
    (tmp_path / "raw" / "images" / "link.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    shutil.copy(tmp_path / "secret.nii.gz", tmp_path / "raw" / "images" / "._a.nii.gz")
    os.mkfifo(tmp_path / "raw" / "images" / "pipe.nii")  # whoever opens it waits for ever
    (tmp_path / "raw" / "loop").symlink_to(tmp_path / "raw")
    assert [c.name for c in plan_import(tmp_path / "raw").cases] == ["a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"name": "liver", "value": 2}]', ({"name": "liver", "value": 2},)),
        ('{"0": "background", "1": "liver"}', ({"name": "liver", "value": 1},)),
        ('{"categories": [{"name": "liver"}]}', ({"name": "liver"},)),
    ],
)
def test_category_tables(tmp_path, text, expected):
    (tmp_path / "c.json").write_text(text)
    assert read_categories(tmp_path / "c.json") == expected


def test_bad_options_are_refused(tmp_path):
    (tmp_path / "c.json").write_text("7")
    with pytest.raises(CategoryError, match="no category table"):
        read_categories(tmp_path / "c.json")
    with pytest.raises(CategoryError, match="positive integer of its own"):
        ImportOptions(categories=({"name": "a", "value": 1}, {"name": "b", "value": 1}))
    with pytest.raises(CategoryError, match="supercategory 'organ'"):
        ImportOptions(categories=({"name": "a", "supercategory": "organ"},))
    with pytest.raises(OptionError, match="orientation"):
        ImportOptions(orientation="RAS")


def test_native_orientation_keeps_the_order_of_the_file(tmp_path):
    image = np.arange(np.prod(GRID.shape), dtype=np.int16).reshape(GRID.shape)
    write_nifti(tmp_path / "raw" / "a.nii", image[::-1], GRID.flip(0))
    native = import_tree(tmp_path / "raw", tmp_path / "n", options=ImportOptions(orientation="native"))
    canonical = import_tree(tmp_path / "raw", tmp_path / "c")
    np.testing.assert_array_equal(native["a"].images["image"], image[::-1])
    np.testing.assert_array_equal(canonical["a"].images["image"], image)
    assert canonical["a"].images["image"].attributes["reorientation"] == {
        "order": [0, 1, 2],
        "flips": [True, False, False],
    }
    assert native["a"].images["image"].grid.matches(GRID.flip(0))


def test_a_second_import_into_the_same_bundle_at_once_is_refused(tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr("ndvol.importing.run.LOCK_PATIENCE_S", 0.1)
    small_pair(tmp_path / "raw")
    (tmp_path / "b").mkdir()
    with (tmp_path / "b" / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another import"):
            import_tree(tmp_path / "raw", tmp_path / "b")


def test_killed_and_run_again_makes_the_same_bytes(toy_sources, toy_options, toy_bundle, tmp_path):
    """Once, while files are written; ``tests/campaigns/kills.py`` does it at 200 moments."""
    bundle, table = tmp_path / "bundle", tmp_path / "categories.json"
    table.write_text(json.dumps(list(toy_options.categories)))
    command = [sys.executable, "-m", "ndvol", "import", str(toy_sources), str(bundle), "-j", "2"]
    run = subprocess.Popen(
        [*command, "--categories", str(table), "--modality", "CT"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None and not list(bundle.glob("volumes/*.part")):
        time.sleep(0.001)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not (bundle / "data.kwcoco.json").exists(), "it was killed too late"
    expected = digests(toy_bundle)
    assert all(expected[name] == data for name, data in digests(bundle).items())
    import_tree(toy_sources, bundle, options=toy_options)
    names = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*")}
    assert names == {p.relative_to(toy_bundle).as_posix() for p in toy_bundle.rglob("*")}
    for name in names - {"volumes", "import.jsonl"}:
        assert (bundle / name).read_bytes() == (toy_bundle / name).read_bytes()


def test_a_small_device_gives_a_clear_error_and_keeps_what_was_published(toy_sources, toy_options, tmp_path):
    """A file system of 4 MiB, where this machine lets us mount one."""
    target = tmp_path / "small"
    target.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(target)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        table = tmp_path / "categories.json"
        table.write_text(json.dumps(list(toy_options.categories)))
        command = [sys.executable, "-m", "ndvol", "import", str(toy_sources), str(target / "bundle"), "-j", "2"]
        done = subprocess.run([*command, "--categories", str(table)], capture_output=True, text=True, check=False)
        assert done.returncode == 74, done.stderr
        assert "no space left while writing" in done.stderr
        assert "Traceback" not in done.stderr
        published = list((target / "bundle" / "volumes").glob("*.h5"))
        assert published
        assert not any(verify_file(path) for path in published)
        assert not list((target / "bundle" / "volumes").glob("*.part"))
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_the_public_face_finds_everything():
    assert ndvol.open is open_catalog
    for name in ndvol.__all__:
        if name not in ("monai", "nnunet", "torch", "torchio"):  # these need an extra each
            assert getattr(ndvol, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ndvol.nothing
