"""Nothing of a source's identity leaves it under ``strict``, and what each other profile lets pass."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings

import h5py
import hdf5plugin  # noqa: F401  (registers the filters that h5py needs)
import numpy as np
import pydicom
import pytest
from canaries import GRID, Canaries, array, build, plant_dicom, square
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ndvol.errors import ImportFailedError, NdvolError, OptionError
from ndvol.formats import readers
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti
from ndvol.importing import ImportOptions, import_tree, plan_import
from ndvol.importing.wording import HIDDEN, scrub, vocabulary

PATTERN = re.compile(rb"qx\d{4}zk|1847\d{4}|1\.2\.826\.0\.1\.77777\.\d+\.5")
STRICT = ImportOptions(phi="strict")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    canaries = Canaries()
    return build(tmp_path_factory.mktemp("canaries") / canaries.text("root folder"), canaries), canaries.planted


def run_in_sandbox(sandbox, *commands):
    """The exit codes of commands whose every place for files is inside `sandbox`; what they said lies there too."""
    places = {name: sandbox / name.lower() for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for place in places.values():
        place.mkdir(parents=True)
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}}
    codes = []
    for number, command in enumerate(commands):
        done = subprocess.run(
            [sys.executable, "-m", "ndvol", *command], cwd=sandbox, env=environment, capture_output=True, check=False
        )
        assert b"Traceback" not in done.stderr
        (sandbox / f"out-{number}").write_bytes(done.stdout)
        (sandbox / f"err-{number}").write_bytes(done.stderr)
        codes.append(done.returncode)
    return codes


def everything(folder):
    """(where, bytes) of all that lies in a folder: names, raw bytes, and what stands in files once decoded."""
    for path in sorted(folder.rglob("*")):
        yield f"name of {path}", os.fsencode(path.relative_to(folder))
        if not path.is_file():
            continue
        yield str(path), path.read_bytes()
        if path.suffix == ".h5":
            yield from decoded_hdf5(path)
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                yield f"{path} decoded", repr(picture.info).encode() + picture.tobytes()
        elif path.suffix == ".json":
            yield f"{path} decoded", repr(json.loads(path.read_text())).encode()
        elif path.suffix == ".jsonl":
            yield f"{path} decoded", repr([json.loads(line) for line in path.read_text().splitlines()]).encode()


def decoded_hdf5(path):
    with h5py.File(path, locking=False) as file:
        found = {"/": file}
        file.visititems(found.__setitem__)
        assert "provenance" in found
        for name, thing in found.items():
            yield (
                f"{path}{name} attributes",
                repr([(k, np.asarray(v).tobytes()) for k, v in thing.attrs.items()]).encode(),
            )
            if isinstance(thing, h5py.Dataset):
                yield f"{path}{name}", thing[()].tobytes()


def leaks(folder, planted):
    """Canaries found, with the place they were planted in and the one they were found in."""
    found = {}
    for where, data in everything(folder):
        for match in PATTERN.findall(data.lower()):
            # Case aside, canaries are what `PATTERN` describes.
            if (canary := match.decode().replace("qx", "Qx").replace("zk", "zK")) in planted:
                found.setdefault(canary, (planted[canary], where))
    return found


def test_the_pattern_finds_every_canary(sources):
    assert all(PATTERN.fullmatch(canary.lower().encode()) for canary in sources[1])


@pytest.mark.parametrize(
    "options",
    [pytest.param((), marks=pytest.mark.slow, id="unkeyed"), pytest.param(("--phi-key", "key"), id="keyed")],
)
def test_no_canary_leaves_its_source_under_strict(sources, tmp_path, options):
    root, planted = sources
    assert len(planted) >= 400
    vrs = {origin.split()[0] for origin in planted.values()}
    assert {"AE", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT", "OB", "UN"} <= vrs
    (tmp_path / "key").write_bytes(b"a key of more than sixteen bytes")
    strict = (str(root), "bundle", "--phi", "strict", *options)
    first = ["import", *strict, "-j", "1" if options else "0", "--report", "report.md"]
    again = ["import", *strict, "-n", "--json"]
    missing = ["import", f"{root}/nothing", *strict[1:]]
    assert run_in_sandbox(tmp_path, first, again, ["ls", "bundle", "--json"], missing) == [3, 0, 0, 1]
    assert "refused" in (tmp_path / "report.md").read_text()
    cases = json.loads((tmp_path / "out-2").read_text())
    assert len(cases) >= 20, "sources must be imported for their canaries to have a chance"
    assert {label for case in cases for label in case["labels"].split(",")} >= {"segmentation", "structures", "labels"}
    assert leaks(tmp_path, planted) == {}


def test_the_search_finds_canaries_where_they_may_pass(sources, tmp_path):
    root, planted = sources
    assert run_in_sandbox(tmp_path, ["import", str(root), "bundle", "--phi", "keep", "-j", "0"]) == [3]
    found = {origin for origin, _ in leaks(tmp_path, planted).values()}
    assert {"folder of DICOM", "NIfTI name", "mask name", "SegmentLabel", "ROIName", "label name"} <= found
    assert not {o for o in found if o.startswith(("PN ", "private", "preamble", "Overlay", "NIfTI descrip", "PNG "))}


def test_research_names_dicom_sources_to_the_importing_person_only(tmp_path):
    canaries = Canaries()
    root = tmp_path / canaries.text("root folder")
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        plant_dicom(root / canaries.text("folder of DICOM"), canaries)
    (root / f"{canaries.text('letter')}.doc").write_text("exported with the images")
    catalog = import_tree(root, tmp_path / "sandbox" / "bundle")
    assert any("Qx0001zK/" in v.source for v in catalog.verdicts), "the person who imports is told which files"
    found = {origin for origin, _ in leaks(tmp_path / "sandbox", canaries.planted).values()}
    assert {"SegmentLabel", "ROIName"} <= found, "names of structures are kept"
    assert found - {"SegmentLabel", "ROIName"} <= {
        "ImageType",
        "Units",
        "one of two kernels",
        "Modality",
        "RescaleType",
    }


def test_the_same_key_makes_the_same_bytes_and_another_key_other_names(tmp_path):
    write_dicom_series(tmp_path / "raw" / "DOE^JANE", array(), GRID, DicomOptions())
    write_nifti(tmp_path / "raw" / "n" / "images" / "doe.nii", array(), GRID)
    write_nifti(tmp_path / "raw" / "n" / "labels" / "doe.nii", square(), GRID)
    names = []
    for number, text in enumerate(["one key of sixteen bytes", "one key of sixteen bytes", "another key, as long"]):
        key = tmp_path / f"key-{number}"
        key.write_text(text)
        bundle = tmp_path / f"bundle-{number}"
        import_tree(tmp_path / "raw", bundle, options=ImportOptions(phi="strict", phi_key=str(key)))
        names.append({p.name: p.read_bytes() for p in bundle.rglob("*") if p.is_file()})
    assert names[0] == names[1]
    assert len(set(names[0]) & set(names[2])) == len({"data.kwcoco.json", "import.jsonl", ".lock"})


def provenance(bundle, name):
    with h5py.File(bundle / "volumes" / f"{name}.h5", locking=False) as file:
        return json.loads(file["provenance"][()].tobytes())["deidentification"]


@pytest.mark.parametrize(
    ("profile", "dicom", "nifti"),
    [("strict", ["113100"], ["113100", "113105"]), ("research", ["113100"], []), ("keep", [], [])],
)
def test_provenance_says_what_was_done(tmp_path, profile, dicom, nifti):
    write_dicom_series(tmp_path / "raw" / "d", array(), GRID, DicomOptions())
    write_nifti(tmp_path / "raw" / "n" / "images" / "a.nii", array(), GRID)
    write_nifti(tmp_path / "raw" / "n" / "labels" / "a.nii", square(), GRID)
    options = ImportOptions(phi=profile)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=options)
    for name, case in catalog.items():
        facts = provenance(tmp_path / "b", name)
        assert (facts["profile"], facts["key"], facts["pseudonyms"]) == (profile, "unkeyed", "SHA-256")
        assert [method["code"] for method in facts["methods"]] == (dicom if "CT" in case.images else nifti)
    assert ("a" in catalog) == (profile != "strict")


@pytest.mark.parametrize("modality", ["CT", "XA"])
def test_burned_in_annotation_is_flagged_where_it_is_likely(tmp_path, modality):
    for file in write_dicom_series(tmp_path / "raw", array(), GRID, DicomOptions()):
        dataset = pydicom.dcmread(file)
        dataset.Modality = modality
        dataset.save_as(file)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=STRICT)
    [verdict] = catalog.verdicts
    assert (verdict.code == "burned-in-annotation") == (modality == "XA")
    said = provenance(tmp_path / "b", next(iter(catalog)))["burned_in"]
    assert said == ("likely, not removed" if modality == "XA" else "not indicated, not examined")


def test_names_that_the_user_gave_stay(tmp_path):
    write_nifti(tmp_path / "raw" / "case.nii", array(), GRID)
    for name in ("liver", "unexpected"):
        write_nifti(tmp_path / "raw" / "masks" / f"{name}.nii", square(), GRID)
    options = ImportOptions(phi="strict", categories=({"name": "liver"},), label_name="organs", modality="CT")
    [case] = import_tree(tmp_path / "raw", tmp_path / "b", options=options).values()
    assert list(case.images) == ["CT"]
    assert list(case.labels) == ["organs", "organs-2"]
    assert case.labels["organs"].categories == {1: "liver"}
    [pseudonym] = case.labels["organs-2"].categories.values()
    assert pseudonym.startswith("structure-")
    assert case.name.startswith("ct-")


def test_a_bundle_takes_one_profile_and_one_key(tmp_path):
    write_nifti(tmp_path / "raw" / "doe.nii", array(), GRID)
    import_tree(tmp_path / "raw", tmp_path / "b")
    with pytest.raises(OptionError, match="was imported with --phi research; got --phi strict") as caught:
        import_tree(tmp_path / "raw", tmp_path / "b", options=STRICT)
    assert caught.value.code == "other-phi"


def test_a_key_that_is_none_is_refused(tmp_path):
    write_nifti(tmp_path / "raw" / "doe.nii", array(), GRID)
    short, inside = tmp_path / "short", tmp_path / "b" / "key"
    short.write_bytes(b"short")
    inside.parent.mkdir()
    inside.write_bytes(bytes(32))
    for key, reason in ((short, "too short"), (inside, "inside the bundle"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(OptionError, match=reason):
            import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(phi_key=str(key)))


def test_a_fault_of_a_library_names_nothing_under_strict(tmp_path, monkeypatch):
    write_nifti(tmp_path / "raw" / "doe.nii", array(), GRID)

    def fail(*_, **__):
        warnings.warn("DOE", stacklevel=1)
        raise RuntimeError("DOE^JANE")

    monkeypatch.setattr(type(readers()["nifti"]), "read", fail)
    with pytest.raises(ImportFailedError) as caught:
        import_tree(tmp_path / "raw", tmp_path / "b", options=STRICT)
    monkeypatch.setattr(type(readers()["nifti"]), "scan", fail)
    with pytest.raises(NdvolError, match="got RuntimeError") as planned:
        plan_import(tmp_path / "raw", STRICT)
    for error in (caught.value, planned.value):
        assert "doe" not in f"{error} {vars(error)}".lower()
        assert error.__cause__ is error.__context__ is None


def test_the_vocabulary_is_what_ndvol_says():
    assert {"truncated", "slices", "finite", "expected"} <= vocabulary()
    assert not {"Jane", "MUELLER", "Doe"} & vocabulary()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_scrubbing_is_idempotent(text):
    once = scrub(text, {})
    assert scrub(once, {}) == once


@pytest.mark.parametrize(
    "text",
    [
        "DOE^JANE",
        "19700312",
        "1970-03-12",
        "12.03.1970",
        "1.2.840.113619",
        "images/a.nii",
        "061Y",
        "0301-555",
        "a.nii.gz",
    ],
)
def test_what_may_name_somebody_is_hidden(text):
    assert scrub(f"the file {text!r} is truncated; got ({text})", {}) == (
        f"the file {HIDDEN} is truncated; got ({HIDDEN})"
    )
