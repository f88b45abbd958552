"""The map from pseudonyms back to paths: complete, outside the bundle, and for its owner only."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from canaries import GRID, array, square

from ndvol.errors import OptionError
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti
from ndvol.importing import ImportOptions, import_tree
from ndvol.opening import open_catalog

SERIES = re.compile(r"(series|file)-[0-9a-f]{12}")


def sources(root):
    write_dicom_series(root / "DOE^JANE" / "ct", array(), GRID, DicomOptions())
    for seed in ("one", "two"):
        files = write_dicom_series(root / "flat" / seed, array(), GRID, DicomOptions(seed=seed))
        for file in files:
            file.rename(root / "flat" / f"{seed}-{file.name}")
    write_nifti(root / "n" / "doe.nii", array(), GRID)
    write_nifti(root / "n" / "masks" / "jane.nii", square(), GRID)
    (root / "letter.doc").write_text("Dear Dr Doe")
    return root


@pytest.mark.parametrize("phi", ["strict", "research"])
def test_every_pseudonym_of_the_journal_leads_to_its_source(tmp_path, phi):
    root, file = sources(tmp_path / "raw"), tmp_path / "map.json"
    catalog = import_tree(root, tmp_path / "b", options=ImportOptions(phi=phi, phi_map=str(file)))
    found = json.loads(file.read_text())
    named = {v.source for v in open_catalog(tmp_path / "b").verdicts}
    hidden = {name for name in named if SERIES.fullmatch(name)}
    assert hidden <= found.keys()
    assert len(hidden) == {"strict": len(named), "research": 4}[phi], "three series of DICOM and a letter, or all"
    for path in found.values():
        folder, _, digits = path.partition("#")
        assert Path(folder).exists(), path
        assert not digits or re.fullmatch("[0-9a-f]{8}", digits)
    assert str(root / "DOE^JANE" / "ct") in found.values()
    assert str(root / "letter.doc") in found.values()
    # Cases have pseudonyms of their own.
    pseudonymous = {name for name in catalog if phi == "strict" or "CT" in catalog[name].images}
    assert found.keys() == hidden | pseudonymous
    by_case = {v.case: v.source for v in open_catalog(tmp_path / "b").verdicts if v.case and v.source in found}
    for name in pseudonymous:
        assert (found[name] == found[by_case[name]]) or "n/doe.nii" in found[name]


def test_only_its_owner_may_read_it(tmp_path):
    before = os.umask(0)
    try:
        (tmp_path / "map").write_text("{}")
        (tmp_path / "map").chmod(0o644)
        options = ImportOptions(phi="strict", phi_map=str(tmp_path / "map"))
        import_tree(sources(tmp_path / "raw"), tmp_path / "b", options=options)
    finally:
        os.umask(before)
    assert (tmp_path / "map").stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.part"))


def test_the_maps_of_several_imports_add_up(tmp_path):
    for name in ("one", "two"):
        write_nifti(tmp_path / name / f"{name}.nii", array(), GRID)
        options = ImportOptions(phi="strict", phi_map=str(tmp_path / "map"))
        import_tree(tmp_path / name, tmp_path / "b", options=options)
    paths = set(json.loads((tmp_path / "map").read_text()).values())
    assert paths == {str(tmp_path / name / f"{name}.nii") for name in ("one", "two")}


def test_labels_of_another_folder_and_the_root_itself_have_their_paths(tmp_path):
    write_dicom_series(tmp_path / "raw", array(), GRID, DicomOptions())
    write_nifti(tmp_path / "masks" / "a.nii", square(), GRID)
    options = ImportOptions(phi="strict", labels=str(tmp_path / "masks"), phi_map=str(tmp_path / "map"))
    import_tree(tmp_path / "raw", tmp_path / "b", options=options)
    paths = set(json.loads((tmp_path / "map").read_text()).values())
    assert paths == {str(tmp_path / "raw"), str(tmp_path / "masks" / "a.nii")}


@pytest.mark.parametrize("inside", ["map.json", "deep/map.json", "link/map.json"])
def test_a_map_inside_the_bundle_is_refused(tmp_path, inside):
    write_nifti(tmp_path / "raw" / "a.nii", array(), GRID)
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    file = tmp_path / inside if "link" in inside else tmp_path / "b" / inside
    with pytest.raises(OptionError, match="inside the bundle") as caught:
        import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(phi_map=str(file)))
    assert caught.value.code == "phi-map"
    assert not file.exists()
    assert not (tmp_path / "b" / "import.jsonl").exists()


@pytest.mark.parametrize("content", ["[]", "no json", '{"a": 1}'])
def test_a_file_that_holds_something_else_is_not_replaced(tmp_path, content):
    write_nifti(tmp_path / "raw" / "a.nii", array(), GRID)
    (tmp_path / "map").write_text(content)
    with pytest.raises(OptionError, match="holds something else"):
        import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(phi_map=str(tmp_path / "map")))
    assert (tmp_path / "map").read_text() == content


def test_a_map_that_cannot_be_written_stops_the_import_before_it_begins(tmp_path):
    write_nifti(tmp_path / "raw" / "a.nii", array(), GRID)
    for file in (tmp_path / "none" / "map", tmp_path / "raw"):
        with pytest.raises(OptionError, match="cannot be written"):
            import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(phi_map=str(file)))
    assert not (tmp_path / "b").exists()


def test_without_pseudonyms_there_is_no_map():
    with pytest.raises(OptionError, match="no pseudonyms"):
        ImportOptions(phi="keep", phi_map="map")
