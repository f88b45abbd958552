"""A label that cannot be used costs itself alone, is refused again by every run, and is picked up once it is mended."""

from __future__ import annotations

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from test_import import GRID, digests, small_pair

from ndvol.errors import ImportFailedError, SamplingError, SourceError
from ndvol.formats import readers
from ndvol.formats.writing import write_nifti, write_pictures
from ndvol.geometry import Grid
from ndvol.importing import ImportOptions, import_tree
from ndvol.opening import open_catalog
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Negative, Positive
from ndvol.store import read_identity, read_provenance

OFF = Grid.regular("zyx", GRID.shape, spacing=(3, 1, 1))


def by_source(catalog):
    return {v.source: v for v in catalog.verdicts}


def two_labels(root):
    """An image with a good and a bad label."""
    image, label = small_pair(root)
    write_nifti(root / "masks" / "a.nii.gz", label, OFF)
    return image, label


def test_the_image_and_its_other_labels_stay(tmp_path):
    image, label = two_labels(tmp_path / "raw")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    np.testing.assert_array_equal(catalog["a"].images["image"], image)
    assert list(catalog["a"].labels) == ["labels"]
    np.testing.assert_array_equal(catalog["a"].labels["labels"], label)
    found = by_source(catalog)
    assert (found["masks/a.nii.gz"].status, found["masks/a.nii.gz"].code) == ("refused", "label-off-grid")
    assert found["labels/a.nii.gz"].status == "imported"
    assert found["images/a.nii.gz"].message == (
        "imported without the labels of masks/a.nii.gz (label-off-grid), which were refused"
    )
    assert read_provenance(tmp_path / "b" / "volumes" / "a.h5")["refused"] == [["masks", "label-off-grid"]]


def test_every_run_refuses_it_again_without_reading(tmp_path, monkeypatch):
    two_labels(tmp_path / "raw")
    first = import_tree(tmp_path / "raw", tmp_path / "b")
    journal = (tmp_path / "b" / "import.jsonl").read_bytes()
    monkeypatch.setattr("ndvol.importing.labels.reader", None)
    for _ in range(2):
        again = import_tree(tmp_path / "raw", tmp_path / "b")
        ours, theirs = by_source(again), by_source(first)
        assert ours["masks/a.nii.gz"] == theirs["masks/a.nii.gz"]
        assert (ours["images/a.nii.gz"].status, ours["labels/a.nii.gz"].status) == ("unchanged", "unchanged")
        assert ours["images/a.nii.gz"].message == theirs["images/a.nii.gz"].message
    assert {v.source: v.status for v in open_catalog(tmp_path / "b").verdicts} == {
        "images/a.nii.gz": "unchanged",
        "labels/a.nii.gz": "unchanged",
        "masks/a.nii.gz": "refused",
    }
    assert journal != b""


def test_a_touched_source_and_a_lost_journal_keep_the_reason(tmp_path):
    """The file holds no words about its sources, so the label is read again to know why it was refused."""
    two_labels(tmp_path / "raw")
    first = import_tree(tmp_path / "raw", tmp_path / "b")
    before = digests(tmp_path / "b")
    for change in (
        lambda: os.utime(tmp_path / "raw" / "images" / "a.nii.gz", ns=(1, 1)),
        lambda: (tmp_path / "b" / "import.jsonl").unlink(),
    ):
        change()
        again = import_tree(tmp_path / "raw", tmp_path / "b")
        assert by_source(again) == by_source(first)
        assert digests(tmp_path / "b") == before


def test_a_mended_label_is_picked_up(tmp_path):
    _, label = two_labels(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "b")
    write_nifti(tmp_path / "raw" / "masks" / "a.nii.gz", label, GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert {v.status for v in catalog.verdicts} == {"imported"}
    np.testing.assert_array_equal(catalog["a"].labels["masks"], label)
    assert "refused_labels" not in catalog.record("a").attributes


def test_the_refused_source_belongs_to_the_identity(tmp_path):
    """Another label, also off the grid, is another case; the same bytes elsewhere are the same file."""
    _, label = two_labels(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "b1")
    import_tree(tmp_path / "raw", tmp_path / "b2", jobs=2)
    assert digests(tmp_path / "b1") == digests(tmp_path / "b2")
    write_nifti(tmp_path / "raw" / "masks" / "a.nii.gz", 2 * label, OFF)
    import_tree(tmp_path / "raw", tmp_path / "b3")
    one, three = (read_identity(tmp_path / b / "volumes" / "a.h5")["uuid"] for b in ("b1", "b3"))
    assert one != three


def test_published_labels_do_not_go_because_their_source_broke(tmp_path):
    """The case of the bundle stays as it was, and both sources say why."""
    _, label = small_pair(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "b")
    before = digests(tmp_path / "b")
    write_nifti(tmp_path / "raw" / "labels" / "a.nii.gz", label, OFF)
    small_pair(tmp_path / "raw", name="other")
    for jobs in (0, 2):
        catalog = import_tree(tmp_path / "raw", tmp_path / "b", jobs=jobs)
        found = by_source(catalog)
        assert (found["labels/a.nii.gz"].status, found["labels/a.nii.gz"].code) == ("refused", "label-off-grid")
        image = found["images/a.nii.gz"]
        assert (image.status, image.code, image.case) == ("refused", "labels-would-go", None)
        assert "no usable source for labels" in image.message
        assert {n: d for n, d in digests(tmp_path / "b").items() if n == "a.h5"} == before
        np.testing.assert_array_equal(open_catalog(tmp_path / "b")["a"].labels["labels"], label)
    write_nifti(tmp_path / "raw" / "labels" / "a.nii.gz", label, GRID)
    again = import_tree(tmp_path / "raw", tmp_path / "b")
    assert {v.status for v in again.verdicts if "/a." in v.source} <= {"imported", "unchanged"}
    assert digests(tmp_path / "b")["a.h5"] == before["a.h5"]


def truncated(folder):
    file = folder / "a.nii.gz"
    file.write_bytes(file.read_bytes()[:-30])


def fractional(folder):
    write_nifti(folder / "a.nii.gz", np.full(GRID.shape, 0.5, np.float32), GRID)


def negative(folder):
    write_nifti(folder / "a.nii.gz", np.full(GRID.shape, -1, np.int16), GRID)


@pytest.mark.parametrize(
    ("spoil", "code"), [(truncated, "unreadable"), (fractional, "label-values"), (negative, "label-values")]
)
def test_a_label_that_cannot_be_read_as_one(tmp_path, spoil, code):
    image, _ = small_pair(tmp_path / "raw")
    spoil(tmp_path / "raw" / "labels")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    np.testing.assert_array_equal(catalog["a"].images["image"], image)
    assert {v.source: v.code for v in catalog.verdicts} == {"images/a.nii.gz": "warning", "labels/a.nii.gz": code}


def test_a_bug_in_reading_a_label_costs_the_label(tmp_path, monkeypatch):
    small_pair(tmp_path / "raw")
    read = type(readers()["nifti"]).read

    def fail(self, root, series, *, as_label=False):
        if as_label:
            raise ZeroDivisionError("a bug")
        return read(self, root, series)

    monkeypatch.setattr(type(readers()["nifti"]), "read", fail)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    verdict = by_source(catalog)["labels/a.nii.gz"]
    assert (list(catalog), verdict.code) == (["a"], "internal")
    assert "ZeroDivisionError('a bug')" in verdict.message


def test_too_little_memory_for_a_label_costs_the_case(tmp_path, monkeypatch):
    """The next run may have more: nothing is published that would have to be taken back."""
    small_pair(tmp_path / "raw", name="a")
    small_pair(tmp_path / "raw", name="b")
    read = type(readers()["nifti"]).read

    def fail(self, root, series, *, as_label=False):
        if as_label and series.name == "a":
            raise MemoryError
        return read(self, root, series, as_label=as_label)

    monkeypatch.setattr(type(readers()["nifti"]), "read", fail)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert (list(catalog), by_source(catalog)["images/a.nii.gz"].code) == (["b"], "out-of-memory")


def test_an_image_that_cannot_be_read_takes_its_case_along(tmp_path):
    """Channels that some cases lack make no data set."""
    table = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "tumour": 1}}
    for case in ("a", "b"):
        for channel in (0, 1):
            image = np.full(GRID.shape, channel, np.int16)
            file = write_nifti(tmp_path / "raw" / "imagesTr" / f"{case}_{channel:04d}.nii.gz", image, GRID)
        write_nifti(tmp_path / "raw" / "labelsTr" / f"{case}.nii.gz", np.ones(GRID.shape, np.uint8), GRID)
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(table))
    file.write_bytes(file.read_bytes()[:-20])
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert list(catalog) == ["a"]
    assert {v.code for v in catalog.verdicts if v.source.endswith(("b_0000.nii.gz", "b_0001.nii.gz", "/b.nii.gz"))} == {
        "unreadable",
        "image-refused",
    }


def test_many_refused_labels_are_counted(tmp_path):
    image, _ = small_pair(tmp_path / "x")
    write_nifti(tmp_path / "raw" / "ct.nii", image, GRID)
    for k in range(9):
        write_nifti(tmp_path / "raw" / "masks" / f"m{k}.nii", np.ones(GRID.shape, np.uint8), OFF if k else GRID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    [message] = [v.message for v in catalog.verdicts if v.source == "ct.nii"]
    assert "masks/m5.nii (label-off-grid) and 3 more, which were refused" in message
    assert catalog["ct"].labels["masks"].categories == {1: "m0"}
    assert catalog.record("ct").attributes["refused_labels"] == 8


def test_no_negatives_are_drawn_where_a_label_is_missing(tmp_path):
    """What the refused mask would have shown is not absent, it is unknown."""
    image, _ = small_pair(tmp_path / "x")
    for case, grid in (("good", GRID), ("bad", OFF)):
        write_nifti(tmp_path / "raw" / case / f"{case}.nii", image, GRID)
        for name, on in (("liver", GRID), ("spleen", grid)):
            mask = np.zeros(GRID.shape, np.uint8)
            mask[:2, :3, :4] = 1
            write_nifti(tmp_path / "raw" / case / "masks" / f"{name}.nii", mask, on)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    catalog = open_catalog(tmp_path / "b")
    sampler = VolumeSampler(catalog, (2, 2, 2), strategy=Negative("spleen"), seed=3, length=100)
    assert {sampler.target(i).case for i in range(100)} == {"good"}
    sampler = VolumeSampler(catalog, (2, 2, 2), strategy=Positive("liver"), seed=3, length=100)
    assert {sampler.target(i).case for i in range(100)} == {"good", "bad"}


def test_a_case_without_any_label_is_not_annotated(tmp_path):
    small_pair(tmp_path / "raw", label_grid=OFF)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    with pytest.raises(SamplingError, match="negatives need cases with labels"):
        VolumeSampler(catalog, (2, 2, 2), strategy=Negative())


@pytest.mark.parametrize("phi", ["strict", "research"])
def test_strict_says_why_without_saying_what(tmp_path, phi):
    two_labels(tmp_path / "raw" / "doe")
    (tmp_path / "raw" / "doe" / "masks" / "a.nii.gz").rename(tmp_path / "raw" / "doe" / "masks" / "jane.nii.gz")
    write_nifti(tmp_path / "raw" / "doe" / "images" / "jane.nii.gz", np.ones(GRID.shape, np.int16), GRID)
    for _ in range(2):
        catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(phi=phi))
        [refused] = [v for v in catalog.verdicts if v.status == "refused"]
        [warned] = [v for v in catalog.verdicts if v.case == refused.case and v is not refused]
        assert (refused.code, warned.status) in {
            ("label-off-grid", "imported with warnings"),
            ("label-off-grid", "unchanged"),
        }
        assert "imported without the labels of" in warned.message
        assert ("jane" in f"{refused}{warned}") == (phi == "research")


def test_errors_with_reasons_of_their_own_survive_a_pickle():
    """Workers send them."""
    inner = SourceError("off", got=1, code="label-off-grid")
    error = pickle.loads(pickle.dumps(SourceError("gone", code="labels-would-go", refused={"a": inner})))
    assert (error.refused["a"].code, str(error.refused["a"])) == ("label-off-grid", "off; got 1")


# What a reader refuses before anything is decoded has its place in the layout all the same.


def masks(root, *, broken=()):
    """A CT with masks of a liver and a spleen; `broken` are spoilt so that their headers say so."""
    files = {
        "ct": write_nifti(root / "ct.nii", np.arange(np.prod(GRID.shape), dtype=np.int16).reshape(GRID.shape), GRID)
    }
    for k, name in enumerate(("liver", "spleen")):
        mask = np.zeros(GRID.shape, np.uint8)
        mask[k] = 1
        files[name] = write_nifti(root / "segmentations" / f"{name}.nii", mask, GRID)
    for name in broken:
        files[name].write_bytes(files[name].read_bytes()[:400])
    return files


def test_a_mask_that_is_left_alone_is_a_mask_still(tmp_path):
    """A folder of one map would be named by the folder."""
    masks(tmp_path / "raw", broken=["spleen"])
    for status in ("imported with warnings", "unchanged"):
        catalog = import_tree(tmp_path / "raw", tmp_path / "b")
        found = by_source(catalog)["ct.nii"]
        assert (found.status, found.message) == (
            status,
            "imported without the labels of segmentations/spleen.nii (truncated), which were refused",
        )
        assert by_source(catalog)["segmentations/spleen.nii"].code == "truncated"
    assert catalog["ct"].labels["segmentations"].categories == {1: "liver"}
    assert catalog.record("ct").attributes["refused_labels"] == 1


@pytest.mark.parametrize("cut", [True, False])
def test_a_category_to_merge_may_be_missing_where_its_label_was_refused(tmp_path, cut):
    """A case that lacks it for any other reason is refused: --merge may be misspelt."""
    files = masks(tmp_path / "raw", broken=["spleen"] * cut)
    if not cut:
        write_nifti(files["spleen"], np.ones(GRID.shape, np.uint8), OFF)
    options = ImportOptions(merge=("spleen", "liver"))
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=options)
    assert {name: volume.categories for name, volume in catalog["ct"].labels.items()} == {"merged": {2: "liver"}}
    files["spleen"].unlink()
    with pytest.raises(ImportFailedError, match="categories to merge are neither in the case nor"):
        import_tree(tmp_path / "raw", tmp_path / "other", options=options)


def test_a_published_structure_does_not_go_because_its_mask_broke(tmp_path):
    masks(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "b")
    before = digests(tmp_path / "b")
    masks(tmp_path / "raw", broken=["spleen"])
    with pytest.raises(ImportFailedError, match="would take away; got no usable source for spleen of segmentations"):
        import_tree(tmp_path / "raw", tmp_path / "b")
    # The same where only decoding shows it.
    write_nifti(tmp_path / "raw" / "segmentations" / "spleen.nii", np.ones(GRID.shape, np.uint8), OFF)
    with pytest.raises(ImportFailedError, match="would take away; got no usable source for spleen of segmentations"):
        import_tree(tmp_path / "raw", tmp_path / "b")
    assert digests(tmp_path / "b") == before


def test_masks_of_an_image_that_was_refused_are_no_images(tmp_path):
    masks(tmp_path / "raw" / "one", broken=["ct"])
    masks(tmp_path / "raw" / "two")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert list(catalog) == ["two-ct"]
    for name in ("liver", "spleen"):
        verdict = by_source(catalog)[f"one/segmentations/{name}.nii"]
        assert (verdict.status, verdict.code) == ("refused", "image-refused")
        assert verdict.message == "its case lacks the image one/ct.nii, which was refused (truncated)"


def test_a_channel_that_breaks_does_not_replace_the_published_case(tmp_path):
    table = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "tumour": 1}}
    for channel in (0, 1):
        image = np.full(GRID.shape, channel, np.int16)
        file = write_nifti(tmp_path / "raw" / "imagesTr" / f"a_{channel:04d}.nii", image, GRID)
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(table))
    import_tree(tmp_path / "raw", tmp_path / "b")
    before = digests(tmp_path / "b")
    file.write_bytes(b"broken")
    with pytest.raises(ImportFailedError, match="its case lacks the image imagesTr/a_0001"):
        import_tree(tmp_path / "raw", tmp_path / "b")
    assert digests(tmp_path / "b") == before


def test_an_archive_beside_the_only_image_is_no_image(tmp_path):
    masks(tmp_path / "raw")
    with zipfile.ZipFile(tmp_path / "raw" / "more.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert catalog["ct"].labels["segmentations"].categories == {1: "liver", 2: "spleen"}


def test_a_broken_label_of_another_folder(tmp_path):
    image, _ = small_pair(tmp_path / "raw")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.nii.gz").write_bytes(b"broken")
    options = ImportOptions(labels=str(tmp_path / "labels"))
    catalog = import_tree(tmp_path / "raw" / "images", tmp_path / "b", options=options)
    np.testing.assert_array_equal(catalog["a"].images["image"], image)
    assert "without the labels of (labels) a.nii.gz (unreadable)" in by_source(catalog)["a.nii.gz"].message


def test_the_same_stack_of_pictures(tmp_path):
    """A folder is a source too: one of its pictures is missing."""
    for folder in ("images", "labels"):
        files = write_pictures(tmp_path / "raw" / folder / "stack", np.ones((5, 6, 7), np.uint8))
    files[2].unlink()
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    found = by_source(catalog)
    assert found["labels/stack"].status == "refused"
    assert f"without the labels of labels/stack ({found['labels/stack'].code})" in found["images/stack"].message


@pytest.mark.parametrize("names", [["b.nii", "c.nii"], ["a.nii", "a.nii.gz"]])
def test_a_broken_label_of_no_image_has_one_verdict(tmp_path, names):
    """Of no image, or of one of two that have its name."""
    for name in names:
        write_nifti(tmp_path / "raw" / "images" / name, np.ones(GRID.shape, np.int16), GRID)
    (tmp_path / "raw" / "labels").mkdir()
    (tmp_path / "raw" / "labels" / "a.nii").write_bytes(b"broken")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert [v.code for v in catalog.verdicts if v.source == "labels/a.nii"] == ["unreadable"]
    assert len(catalog) == 2
