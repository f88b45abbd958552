"""One defect at a time in a good DICOM series, through the whole import: exactly the verdict that it deserves.

A second series lies in the same tree. Whatever is wrong with the first, the second becomes the same bytes.
"""

from __future__ import annotations

import gzip
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ndvol.formats.writing import DicomOptions, write_dicom_series
from ndvol.geometry import Grid
from ndvol.importing import import_tree

SHAPE = (8, 10, 12)
GRID = Grid.regular("zyx", SHAPE, spacing=(2.5, 0.75, 0.5), origin=(-60, 12, 8))
STORED = (np.arange(np.prod(SHAPE), dtype=np.int16) * 3).reshape(SHAPE)
"""Different at every voxel, so that no reordering goes unseen."""
HU = STORED.astype(np.int16) - 1024
OTHER_GRID = Grid.regular("zyx", (4, 10, 12), spacing=(4, 1, 1))

REFUSED, SKIPPED, SPLIT = "refused", "skipped", "split"
IMPORTED, DOUBTED = "imported", "imported with warnings"
GAP = r"^1 slice is missing; got a gap of 5\.000 mm .*ct/IM0004\.dcm.*ct/IM0006\.dcm.*; expected 2\.500 mm between"
"""After IM0005.dcm was lost: how wide the gap is, and between which files."""

Row = tuple[str, str, str, int, str]
Files = list[Path]


def write_series(root: Path) -> Files:
    """The series that will be spoiled, ``ct``, and the one that must not notice, ``other``."""
    write_dicom_series(root / "other", STORED[:4], OTHER_GRID, DicomOptions(modality="MR", seed="other"))
    return write_dicom_series(root / "ct", STORED, GRID, DicomOptions(intercept=-1024))


def edit(file: Path, **changes: object) -> None:
    dataset = pydicom.dcmread(file)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(file)


@dataclass(frozen=True)
class Defect:
    """A way to spoil a series, and what the import must make of it.

    Attributes
    ----------
    verdicts : source (of a split series without its digest), status, code, files, pattern of the message.
    voxels : the image that is imported all the same; None when nothing is.
    """

    name: str
    spoil: Callable[[Files], object]
    verdicts: tuple[Row, ...]
    voxels: np.ndarray | None = None
    marks: tuple[pytest.MarkDecorator, ...] = ()


def doubled(files: Files, **changes: object) -> Path:
    copy = files[3].with_name("again.dcm")
    shutil.copy(files[3], copy)
    if changes:
        edit(copy, **changes)
    return copy


def for_all(change: Callable[[int, Path], object]) -> Callable[[Files], object]:
    return lambda files: [change(k, file) for k, file in enumerate(files)]


def flip_row(file: Path) -> None:
    x, *rest = pydicom.dcmread(file).ImageOrientationPatient
    edit(file, ImageOrientationPatient=[-x, *rest])


def strip_preamble(file: Path) -> None:
    """No preamble and no ``DICM`` (PS3.10 7.1); the meta information stays."""
    file.write_bytes(file.read_bytes()[132:])


def strip_meta(file: Path) -> None:
    """The data set alone, as old archives wrote it."""
    dataset = pydicom.dcmread(file)
    del dataset.file_meta
    dataset.preamble = None
    dataset.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)


def pack(file: Path) -> Path:
    packed = file.with_name(f"{file.name}.gz")
    packed.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    file.unlink()
    return packed


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def mix_in_pages(files: Files) -> None:
    """A secondary capture and a structured report of the same series."""
    page = pydicom.dcmread(files[0])
    page.SOPClassUID, page.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.5"
    del page.ImagePositionPatient, page.ImageOrientationPatient
    page.save_as(files[0].with_name("page.dcm"))
    report = pydicom.dcmread(files[0], stop_before_pixels=True)
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.3.6"
    report.Modality = "SR"
    del report.Rows, report.Columns
    report.save_as(files[0].with_name("report.dcm"))


def with_plane(k: int, plane: object, dtype: type[np.generic]) -> np.ndarray:
    out = HU.astype(dtype)
    out[k] = plane
    return out


def of_ct(status: str, code: str, files: int, message: str = "") -> Row:
    return "ct", status, code, files, message


SLOPES = np.full((8, 1, 1), 2)
SLOPES[0] = 1
UNEQUAL = r"unequal numbers of slices"
SAME_UID = r"ct/IM0004.dcm and ct/again.dcm carry the same SOPInstanceUID but differ"

DEFECTS = (
    Defect("nothing", lambda files: None, (of_ct(IMPORTED, "ok", 8),), HU),
    # Which slices.
    Defect("slice dropped", lambda files: files[4].unlink(), (of_ct(REFUSED, "missing-slices", 7, GAP),)),
    Defect(
        "two neighbours dropped",
        lambda files: [f.unlink() for f in files[4:6]],
        (
            of_ct(
                REFUSED,
                "missing-slices",
                6,
                r"^2 slices are missing; got a gap of 7\.500 mm .*ct/IM0004\.dcm.*ct/IM0007\.dcm",
            ),
        ),
    ),
    Defect(
        "slice doubled, same UID",
        doubled,
        (
            of_ct(DOUBTED, "warning", 8, r"^1 copy of a slice \(same UID, same pixels\) was dropped"),
            ("ct/again.dcm", SKIPPED, "duplicate", 1, r"same UID and the same pixels as a file that was kept"),
        ),
        HU,
    ),
    Defect(
        "slice doubled, same UID, other pixels",
        lambda files: doubled(files, PixelData=bytes(240)),
        (of_ct(REFUSED, "duplicate-uid", 9, SAME_UID),),
    ),
    Defect(
        "slice doubled, new UID",
        lambda files: doubled(files, SOPInstanceUID="1.2.3.4"),
        (of_ct(REFUSED, "unequal-counts", 9, UNEQUAL),),
    ),
    Defect(
        "slice doubled, new UID, other pixels and number",
        lambda files: doubled(files, SOPInstanceUID="1.2.3.4", InstanceNumber=99, PixelData=bytes(240)),
        (of_ct(REFUSED, "unequal-counts", 9, UNEQUAL),),
    ),
    Defect(
        "slice shifted",
        lambda files: edit(files[3], ImagePositionPatient=[f"{v:.4f}" for v in GRID.world((3.4, 0, 0))]),
        (of_ct(REFUSED, "uneven-slices", 8, r"unevenly spaced; got .*3\.500 mm.*1\.500 mm.*ct/IM0003\.dcm"),),
    ),
    # What the files are called and numbered.
    Defect("InstanceNumber all 0", for_all(lambda k, f: edit(f, InstanceNumber=0)), (of_ct(IMPORTED, "ok", 8),), HU),
    Defect("InstanceNumber all 7", for_all(lambda k, f: edit(f, InstanceNumber=7)), (of_ct(IMPORTED, "ok", 8),), HU),
    Defect(
        "InstanceNumber backwards",
        for_all(lambda k, f: edit(f, InstanceNumber=8 - k)),
        (of_ct(IMPORTED, "ok", 8),),
        HU,
    ),
    # Values.
    Defect(
        "slope 1 on the first slice, 2 on the others",
        for_all(lambda k, f: edit(f, RescaleSlope=str(min(k, 1) + 1))),
        (of_ct(DOUBTED, "warning", 8, r"RescaleSlope or RescaleIntercept differ between slices: values are float32"),),
        (STORED * SLOPES - 1024).astype(np.float32),
    ),
    Defect(
        "one slice without RescaleIntercept",
        lambda files: edit(files[0], RescaleIntercept=None),
        (of_ct(DOUBTED, "warning", 8, r"RescaleSlope or RescaleIntercept differ between slices: values are float32"),),
        with_plane(0, STORED[0], np.float32),
    ),
    Defect(
        "mixed signedness",
        lambda files: edit(files[3], PixelRepresentation=0, PixelData=b"\xff\xff" * 120),
        (of_ct(IMPORTED, "ok", 8),),
        with_plane(3, 65535 - 1024, np.int32),
    ),
    # Geometry.
    Defect(
        "orientation of one slice flipped",
        lambda files: flip_row(files[4]),
        (
            of_ct(SPLIT, "split", 8, r"one SeriesInstanceUID holds 2 stacks .*differ in .*[oO]rientation"),
            ("ct#", REFUSED, "missing-slices", 7, GAP),
            ("ct#", DOUBTED, "warning", 1, r"single slice: spacing along z is the slice's thickness"),
        ),
        HU[4:5, :, ::-1],
    ),
    Defect(
        "orientation of every slice flipped",
        for_all(lambda k, f: flip_row(f)),
        (of_ct(IMPORTED, "ok", 8),),
        # The normal turns with the row: canonical orientation puts both back.
        HU[:, :, ::-1],
    ),
    Defect(
        "one slice with another PixelSpacing",
        lambda files: edit(files[3], PixelSpacing=["0.75", "0.52"]),
        (of_ct(REFUSED, "inconsistent-spacing", 8, r"differ in PixelSpacing; got .*0\.5\b.*0\.52\b"),),
    ),
    # Files.
    Defect("preamble stripped", for_all(lambda k, f: strip_preamble(f)), (of_ct(IMPORTED, "ok", 8),), HU),
    Defect("preamble of one slice stripped", lambda fs: strip_preamble(fs[3]), (of_ct(IMPORTED, "ok", 8),), HU),
    Defect("meta information stripped", for_all(lambda k, f: strip_meta(f)), (of_ct(IMPORTED, "ok", 8),), HU),
    Defect("gzipped", for_all(lambda k, f: pack(f)), (of_ct(IMPORTED, "ok", 8),), HU),
    Defect("one slice gzipped", lambda files: pack(files[4]), (of_ct(IMPORTED, "ok", 8),), HU),
    Defect(
        "one slice gzipped and truncated",
        lambda files: cut(pack(files[4]), -40),
        (
            of_ct(REFUSED, "missing-slices", 7, GAP),
            (
                "ct/IM0005.dcm.gz",
                REFUSED,
                "gzip",
                1,
                r"IM0005\.dcm\.gz cannot be inflated; got a stream that ends after",
            ),
        ),
    ),
    Defect(
        "pixels truncated",
        lambda files: cut(files[3], -7),
        (of_ct(REFUSED, "truncated", 8, r"ct/IM0004\.dcm is truncated; got 233 bytes; expected 240"),),
    ),
    Defect(
        "header truncated",
        lambda files: cut(files[4], 600),
        (
            of_ct(REFUSED, "missing-slices", 7, GAP),
            ("ct/IM0005.dcm", REFUSED, "unreadable", 1, r"the header is cut or damaged"),
        ),
    ),
    Defect(
        "last file without its header",
        lambda files: cut(files[7], 600),
        (
            of_ct(DOUBTED, "warning", 7, r"1 DICOM files? in the same folder could not be read"),
            ("ct/IM0008.dcm", REFUSED, "unreadable", 1, r"the header is cut or damaged"),
        ),
        HU[:7],
    ),
    Defect(
        "file emptied",
        lambda files: cut(files[4], 0),
        (of_ct(REFUSED, "missing-slices", 7, GAP), ("ct/IM0005.dcm", SKIPPED, "unknown-format", 1, "")),
    ),
    Defect(
        "secondary capture and report mixed in",
        mix_in_pages,
        (
            of_ct(IMPORTED, "ok", 8),
            ("ct/page.dcm", SKIPPED, "secondary-capture", 1, r"without position"),
            ("ct/report.dcm", SKIPPED, "not-an-image", 1, r"Basic Text SR Storage holds no image"),
        ),
        HU,
    ),
)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """The file of the series ``other``, from a tree without a defect."""
    root = tmp_path_factory.mktemp("good")
    write_series(root / "raw")
    return other_bytes(import_tree(root / "raw", root / "bundle"), root / "bundle")


def other_bytes(catalog, bundle):
    [verdict] = [v for v in catalog.verdicts if v.source == "other"]
    assert (verdict.status, verdict.code, verdict.files) == ("imported", "ok", 4)
    return (bundle / "volumes" / f"{verdict.case}.h5").read_bytes()


def rows(catalog):
    """The verdicts on all but ``other``, without the digests that tell the parts of a split series apart."""
    return [(re.sub(r"#[0-9a-f]{8}$", "#", v.source), v) for v in catalog.verdicts if v.source != "other"]


def assert_verdicts(catalog, expected):
    found = rows(catalog)
    said = sorted((source, v.status, v.code, v.files) for source, v in found)
    assert said == sorted(row[:4] for row in expected), [v.message for _, v in found]
    for source, status, code, _, pattern in expected:
        [message] = [v.message for s, v in found if (s, v.status, v.code) == (source, status, code)]
        assert re.search(pattern, message), message
        assert bool(message) == bool(pattern) or code == "unknown-format"


@pytest.mark.parametrize("defect", [pytest.param(d, id=d.name.replace(" ", "-"), marks=d.marks) for d in DEFECTS])
def test_a_defect_gets_its_verdict_and_harms_no_other_series(tmp_path, untouched, defect):
    defect.spoil(write_series(tmp_path / "raw"))
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert_verdicts(catalog, defect.verdicts)
    assert other_bytes(catalog, tmp_path / "bundle") == untouched
    volumes = [case.images["CT"] for case in catalog.values() if "CT" in case.images]
    assert len(volumes) == (defect.voxels is not None)
    for volume in volumes:
        assert volume.dtype == defect.voxels.dtype
        np.testing.assert_array_equal(volume, defect.voxels)
        assert volume.attributes["value_unit"] == "HU"


def test_names_and_order_of_the_files_change_nothing_that_is_published(tmp_path):
    """Only the journal, which knows the sources by their names, tells the two bundles apart."""
    write_series(tmp_path / "one")
    files = write_series(tmp_path / "two")
    order = np.random.default_rng(5).permutation(len(files))
    for k, file in zip(order, files, strict=True):
        file.rename(file.with_name(f"{k}-scan"))
    for name in ("one", "two"):
        import_tree(tmp_path / name, tmp_path / f"bundle-{name}")
    one, two = (
        {p.relative_to(b).as_posix(): p.read_bytes() for p in sorted(b.rglob("*")) if p.is_file()}
        for b in (tmp_path / "bundle-one", tmp_path / "bundle-two")
    )
    published = [name for name in one if name.startswith("volumes/") or name == "data.kwcoco.json"]
    assert len(published) == 5
    assert one.keys() == two.keys()
    assert [name for name in published if one[name] != two[name]] == []
    assert one["import.jsonl"] != two["import.jsonl"]


def test_numbering_changes_the_identity_of_a_case_but_no_voxel_and_no_place(tmp_path):
    """Other bytes are another source: uuid and digests differ, all that a reader of the volume sees does not."""
    write_series(tmp_path / "one")
    for file in write_series(tmp_path / "two"):
        edit(file, InstanceNumber=0)
    one, two = (import_tree(tmp_path / name, tmp_path / f"bundle-{name}") for name in ("one", "two"))
    assert list(one) == list(two)
    [name] = [n for n in one if n.startswith("ct-")]
    ours, theirs = one[name].images["CT"], two[name].images["CT"]
    np.testing.assert_array_equal(ours, theirs)
    assert ours.grid == theirs.grid
    assert dict(ours.attributes) == dict(theirs.attributes)
    facts = [dict(c.record(name).attributes) for c in (one, two)]
    assert {k for k in facts[0] if facts[0][k] != facts[1][k]} == {"uuid", "sha256"}


# Labels drawn on the series.


def write_structure_set(file: Path, image: Dataset, frame: str) -> None:
    """An RTSTRUCT of one square on plane 2 that names the image's series."""
    rt, reference, study, series, roi, drawn, contour = (Dataset() for _ in range(7))
    rt.file_meta = FileMetaDataset()
    rt.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rt.SOPClassUID, rt.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.3.7"
    rt.SeriesInstanceUID, rt.Modality = "1.2.3.8", "RTSTRUCT"
    reference.FrameOfReferenceUID, series.SeriesInstanceUID = frame, image.SeriesInstanceUID
    study.RTReferencedSeriesSequence, reference.RTReferencedStudySequence = [series], [study]
    rt.ReferencedFrameOfReferenceSequence = [reference]
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = 1, "Lung", frame
    corners = [(2, 1.5, 1.5), (2, 1.5, 8.5), (2, 6.5, 8.5), (2, 6.5, 1.5)]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(corners)
    contour.ContourData = [f"{v:.4f}" for v in GRID.world(corners).ravel()]
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, [contour]
    rt.StructureSetROISequence, rt.ROIContourSequence = [roi], [drawn]
    rt.save_as(file, enforce_file_format=True)


def write_segmentation(file: Path, image: Dataset, frame: str, off: float = 0.0) -> None:
    """A SEG of one square on plane 2 that names the image's series; `off` voxels off along x."""
    seg, segment, shared, measures, orientation, series = (Dataset() for _ in range(6))
    group, position, identification = (Dataset() for _ in range(3))
    seg.file_meta = FileMetaDataset()
    seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    seg.SOPClassUID, seg.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.3.9"
    seg.SeriesInstanceUID, seg.Modality, seg.SegmentationType = "1.2.3.10", "SEG", "BINARY"
    seg.FrameOfReferenceUID, series.SeriesInstanceUID = frame, image.SeriesInstanceUID
    seg.ReferencedSeriesSequence = [series]
    seg.Rows, seg.Columns, seg.NumberOfFrames, seg.SamplesPerPixel = image.Rows, image.Columns, 1, 1
    seg.BitsAllocated, seg.BitsStored, seg.HighBit, seg.PixelRepresentation = 1, 1, 0, 0
    seg.PhotometricInterpretation = "MONOCHROME2"
    segment.SegmentNumber, segment.SegmentLabel = 1, "Lung"
    seg.SegmentSequence = [segment]
    measures.PixelSpacing, measures.SliceThickness = image.PixelSpacing, image.SliceThickness
    orientation.ImageOrientationPatient = image.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    position.ImagePositionPatient = [f"{v:.4f}" for v in GRID.world((2, 0, off))]
    identification.ReferencedSegmentNumber = 1
    group.PlanePositionSequence, group.SegmentIdentificationSequence = [position], [identification]
    seg.SharedFunctionalGroupsSequence, seg.PerFrameFunctionalGroupsSequence = [shared], [group]
    seg.PixelData = np.packbits(square()[2].ravel(), bitorder="little").tobytes() + b"\0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom on the odd number of bytes
        seg.save_as(file, enforce_file_format=True)


def square() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[2, 2:7, 2:9] = True
    return mask


LABELS = {"RTSTRUCT": write_structure_set, "SEG": write_segmentation}
OTHER_FRAME = r"another frame of reference than the image series they name"


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_in_the_frame_of_its_image_is_drawn(tmp_path, untouched, kind):
    image = pydicom.dcmread(write_series(tmp_path / "raw")[0])
    LABELS[kind](tmp_path / "raw" / "ct" / "drawn.dcm", image, image.FrameOfReferenceUID)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert_verdicts(catalog, [of_ct(IMPORTED, "ok", 8), ("ct/drawn.dcm", IMPORTED, "ok", 1, "")])
    [label] = [volume for case in catalog.values() for volume in case.labels.values()]
    np.testing.assert_array_equal(np.asarray(label) == 1, square())
    assert label.categories == {1: "Lung"}
    assert other_bytes(catalog, tmp_path / "bundle") == untouched


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_in_another_frame_is_refused_and_its_image_imported(tmp_path, untouched, kind):
    image = pydicom.dcmread(write_series(tmp_path / "raw")[0])
    LABELS[kind](tmp_path / "raw" / "ct" / "drawn.dcm", image, "1.2.99")
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert_verdicts(catalog, [of_ct(IMPORTED, "ok", 8), ("ct/drawn.dcm", REFUSED, "other-frame", 1, OTHER_FRAME)])
    assert all(not case.labels for case in catalog.values())
    assert other_bytes(catalog, tmp_path / "bundle") == untouched


@pytest.mark.parametrize(("off", "code"), [(0.4, "label-off-grid"), (100.0, "label-outside")])
def test_a_label_off_the_grid_costs_itself_alone(tmp_path, untouched, off, code):
    image = pydicom.dcmread(write_series(tmp_path / "raw")[0])
    write_segmentation(tmp_path / "raw" / "ct" / "drawn.dcm", image, image.FrameOfReferenceUID, off)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    fact = (
        r"\[0\.0, 0\.0, 0\.4\] off"
        if off < 1
        else r"\[2, 2, 102\] to \[2, 6, 108\] of the image; expected \[0, 0, 0\] to \[7, 9, 11\]"
    )
    named = rf"ct/drawn\.dcm .*{fact}"
    warned = rf"imported without the labels of ct/drawn\.dcm \({code}\)"
    assert_verdicts(catalog, [of_ct(DOUBTED, "warning", 8, warned), ("ct/drawn.dcm", REFUSED, code, 1, named)])
    assert [(list(case.images), list(case.labels)) for case in catalog.values() if "CT" in case.images] == [
        (["CT"], [])
    ]
    np.testing.assert_array_equal(next(case.images["CT"] for case in catalog.values() if "CT" in case.images), HU)
    assert other_bytes(catalog, tmp_path / "bundle") == untouched


def test_a_spacing_of_absurd_size_costs_only_its_series(tmp_path):
    """Numbers like 1e300 pass every single check and make no affine."""
    write_series(tmp_path / "raw")
    for file in sorted((tmp_path / "raw" / "ct").iterdir()):
        dataset = pydicom.dcmread(file)
        dataset.PixelSpacing = ["1e300", "1e300"]
        dataset.save_as(file)
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle")
    assert len(catalog) == 1
    assert [v.status for v in catalog.verdicts if v.source == "ct"] == ["refused"]
