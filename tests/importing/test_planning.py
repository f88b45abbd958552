"""The search of the sources: readers of other packages, and names for what lies in the root itself."""

from __future__ import annotations

import numpy as np
import pytest

from ndvol.errors import ImportFailedError
from ndvol.formats import Scan, Series, VolumeData, dicom_files, readers
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti
from ndvol.geometry import Grid
from ndvol.importing import ImportOptions, import_tree, plan_import
from ndvol.importing.planning import TOP, list_files

GRID = Grid.regular("zyx", (4, 5, 6), spacing=(2, 1, 1))
ARRAY = np.arange(120, dtype=np.int16).reshape(GRID.shape)


class FailingReader:
    """A reader of another package that meets a file it did not expect."""

    name = "theirs"

    def scan(self, root, files, options=None, *, jobs=0):
        raise KeyError(f"cannot cope with {files[0]}")


class TakingReader:
    """A reader of another package that takes over NIfTI."""

    name = "taking"

    def scan(self, root, files, options=None, *, jobs=0):
        found = [f for f in files if f.endswith(".nii")]
        series = [Series("taking", f, (f,), f[:-4], f[:-4], "XY", "zyx", GRID.shape, "int16", None) for f in found]
        return Scan(tuple(series), (), frozenset(found))

    def read(self, root, series, *, as_label=False):
        return VolumeData(ARRAY + 1, GRID)


def install(monkeypatch, *others):
    ours = readers()
    found = {reader.name: reader for reader in others} | ours
    for module in ("ndvol.importing.planning.readers", "ndvol.formats.readers"):
        monkeypatch.setattr(module, lambda: found)


def test_a_reader_of_another_package_may_take_over_a_format(tmp_path, monkeypatch):
    write_nifti(tmp_path / "raw" / "a.nii", ARRAY, GRID)
    install(monkeypatch, TakingReader())
    [case] = import_tree(tmp_path / "raw", tmp_path / "b").values()
    np.testing.assert_array_equal(case.images["XY"], ARRAY + 1)


@pytest.mark.parametrize("phi", ["strict", "research", "keep"])
def test_one_that_fails_is_named_and_the_others_get_its_files(tmp_path, monkeypatch, phi):
    write_nifti(tmp_path / "raw" / "doe.nii", ARRAY, GRID)
    install(monkeypatch, FailingReader())
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(phi=phi))
    [case] = catalog.values()
    np.testing.assert_array_equal(case.images["image"], ARRAY)
    [verdict] = [v for v in catalog.verdicts if v.code == "reader-failed"]
    assert (verdict.status, verdict.files) == ("skipped", 0)
    assert "and the others got its files" in verdict.message
    assert ("doe" in f"{verdict}") == (phi != "strict")
    if phi != "strict":
        assert verdict.source == "(reader theirs)"
        assert verdict.message.startswith("the reader 'theirs' failed")
        assert "KeyError('cannot cope with doe.nii')" in verdict.message


def test_one_of_ours_that_fails_is_a_bug(tmp_path, monkeypatch):
    """Nobody else reads its formats: to go on would pass over all of them."""
    write_nifti(tmp_path / "raw" / "a.nii", ARRAY, GRID)

    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(type(readers()["nifti"]), "scan", fail)
    with pytest.raises(ZeroDivisionError):
        plan_import(tmp_path / "raw")


def test_the_root_itself_has_a_name(tmp_path):
    """Not ``.``, as readers call it: it begins lines of text."""
    write_dicom_series(tmp_path / "one", ARRAY, GRID, DicomOptions())
    assert [v.source for v in import_tree(tmp_path / "one", tmp_path / "b1").verdicts] == [TOP]
    for k, seed in enumerate("ab"):
        for file in write_dicom_series(tmp_path / seed, ARRAY, GRID, DicomOptions(seed=seed)):
            file.rename(file.with_name(f"{k}-{file.name}"))
    (tmp_path / "two").mkdir()
    for file in [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()]:
        file.rename(tmp_path / "two" / file.name)
    for status in ("imported", "unchanged"):
        verdicts = import_tree(tmp_path / "two", tmp_path / "b2").verdicts
        assert [v.source.partition("#")[0] for v in verdicts] == [TOP, TOP]
        assert len({v.source for v in verdicts}) == 2
        assert {v.status for v in verdicts} == {status}
    (tmp_path / "two" / "0-IM0002.dcm").unlink()
    (tmp_path / "two" / "1-IM0002.dcm").unlink()
    with pytest.raises(ImportFailedError, match=r"\(top folder\)#[0-9a-f]{8}: the slices are unevenly"):
        import_tree(tmp_path / "two", tmp_path / "b3")


def test_what_is_listed(tmp_path):
    for name in ("b.nii", "a/c.nii", ".hidden", ".git/d.nii", "old/import.jsonl", "old/volumes/e.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert list_files(tmp_path) == (tmp_path, ["a/c.nii", "b.nii"])
    assert list_files(tmp_path / "b.nii") == (tmp_path, ["b.nii"])


def test_links_that_lead_out_are_followed_when_asked_for(tmp_path):
    write_nifti(tmp_path / "data" / "scan.nii", ARRAY, GRID)
    root = tmp_path / "raw"
    (root / "more").mkdir(parents=True)
    (root / "out.nii").symlink_to(tmp_path / "data" / "scan.nii")
    (root / "more" / "within.nii").symlink_to("../out.nii")
    (root / "gone.nii").symlink_to(tmp_path / "nothing")
    (root / "folder").symlink_to(tmp_path / "data")
    assert list_files(root) == (root, [])
    assert list_files(root, follow_links=True) == (root, ["more/within.nii", "out.nii"])
    with pytest.raises(ImportFailedError):
        import_tree(root, tmp_path / "b")
    catalog = import_tree(root, tmp_path / "b", options=ImportOptions(follow_links=True))
    assert sorted(catalog) == ["out", "within"]
    np.testing.assert_array_equal(catalog["within"].images["image"], ARRAY)


def test_the_plan_is_the_same_for_any_number_of_processes(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_dicom_series(tmp_path / name, ARRAY, GRID, DicomOptions(seed=name))
    alone = plan_import(tmp_path)
    assert len(alone.cases) == 2
    started = []
    pool = dicom_files.ProcessPoolExecutor
    monkeypatch.setattr(dicom_files, "FEWEST", 5)
    monkeypatch.setattr(dicom_files, "ProcessPoolExecutor", lambda n, **how: started.append(n) or pool(n, **how))
    assert plan_import(tmp_path, jobs=2) == alone
    assert started == [2]
