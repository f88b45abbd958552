"""Good files of every kind that `fuzz.py` spoils; all are small and made without chance."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_more
import nibabel as nib
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from ndvol.formats.writing import DicomOptions, write_dicom_series, write_enhanced_dicom, write_nifti
from ndvol.geometry import Grid

SHAPE = (3, 24, 20)
GRID = Grid.regular("zyx", SHAPE, spacing=(2.5, 0.75, 0.5), origin=(-60, 12, 8))
KINDS = ("dicom", "nifti", "tiff", "png", "nrrd", "mha", "mgh", "minc", "arrays")


def seeds(kind: str, folder: Path) -> list[tuple[str, bytes]]:
    """Name and bytes of the good files of a kind."""
    if kind in ("nrrd", "mha", "mgh", "arrays"):
        return list(getattr(fuzz_more, kind)(_stored()))
    more = {"minc": lambda at: fuzz_more.minc(_stored(), at)}
    return ({"dicom": _dicom, "nifti": _nifti, "tiff": _tiff, "png": _png} | more)[kind](folder)


def _stored(dtype: Any = np.int16) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return ((z * 900 + y * 37 + x * x) % 3000).astype(dtype)


def _dicom(folder: Path) -> list[tuple[str, bytes]]:
    good = write_dicom_series(folder / "ct", _stored(), GRID, DicomOptions(intercept=-1024, bits_stored=12))
    found = [("plain", good[1].read_bytes())]

    def variant(name: str, change: Callable[[Dataset], None], **options: Any) -> None:
        dataset = pydicom.dcmread(good[1])
        change(dataset)
        out = io.BytesIO()
        dataset.save_as(out, **options)
        found.append((name, out.getvalue()))

    def jpeg2000(dataset: Dataset) -> None:
        stream = io.BytesIO()
        Image.fromarray(dataset.pixel_array.view(np.uint16)).save(stream, "JPEG2000", no_jp2=True, signed=True)
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless

    def bare(dataset: Dataset) -> None:
        del dataset.file_meta
        dataset.preamble = None

    def deflated(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    variant("rle", lambda d: d.compress(RLELossless, generate_instance_uid=False))
    variant("jpeg-ls", lambda d: d.compress(JPEGLSLossless, generate_instance_uid=False))
    variant("jpeg-2000", jpeg2000)
    variant("deflated", deflated)
    variant("bare", bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    for name, modality, array in (("enhanced", "MR", _stored()), ("enhanced-t", "CT", np.stack([_stored()] * 2))):
        file = write_enhanced_dicom(folder / f"{name}.dcm", array, GRID, DicomOptions(modality=modality))
        found.append((name, file.read_bytes()))
    found.append(("structures", _structure_set()))
    found.append(("segmentation", _segmentation(good)))
    return found + fuzz_more.more_dicom(good[1], folder)


def _structure_set() -> bytes:
    rt, frame, study, series, roi, drawn, contour = (Dataset() for _ in range(7))
    rt.file_meta = FileMetaDataset()
    rt.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = generate_uid(entropy_srcs=["structures"])
    rt.SOPClassUID, rt.SOPInstanceUID, rt.SeriesInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", uid, uid
    rt.Modality = "RTSTRUCT"
    frame.FrameOfReferenceUID, series.SeriesInstanceUID = "1.2.3", "1.2.4"
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    rt.ReferencedFrameOfReferenceSequence = [frame]
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = 1, "Lung", "1.2.3"
    points = GRID.world([(1, 2, 2), (1, 2, 15), (1, 20, 15), (1, 20, 2)])
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    contour.ContourData = [f"{v:.4f}" for v in points.ravel()]
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, [contour]
    rt.StructureSetROISequence, rt.ROIContourSequence = [roi], [drawn]
    out = io.BytesIO()
    rt.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _segmentation(images: list[Path]) -> bytes:
    """One binary segment, one frame per plane (PS3.3 C.8.20)."""
    first = pydicom.dcmread(images[0])
    seg, segment, shared, measures, orientation, series = (Dataset() for _ in range(6))
    seg.file_meta = FileMetaDataset()
    seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = generate_uid(entropy_srcs=["segmentation"])
    seg.SOPClassUID, seg.SOPInstanceUID, seg.SeriesInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", uid, uid
    seg.FrameOfReferenceUID, seg.Modality, seg.SegmentationType = first.FrameOfReferenceUID, "SEG", "BINARY"
    seg.Rows, seg.Columns, seg.NumberOfFrames = *SHAPE[1:], SHAPE[0]
    seg.BitsAllocated, seg.BitsStored, seg.HighBit, seg.PixelRepresentation = 1, 1, 0, 0
    seg.SamplesPerPixel, seg.PhotometricInterpretation = 1, "MONOCHROME2"
    segment.SegmentNumber, segment.SegmentLabel = 1, "Lung"
    seg.SegmentSequence = [segment]
    series.SeriesInstanceUID = first.SeriesInstanceUID
    seg.ReferencedSeriesSequence = [series]
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    seg.SharedFunctionalGroupsSequence = [shared]
    seg.PerFrameFunctionalGroupsSequence = []
    for file in images:
        group, position, identification = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = pydicom.dcmread(file).ImagePositionPatient
        identification.ReferencedSegmentNumber = 1
        group.PlanePositionSequence, group.SegmentIdentificationSequence = [position], [identification]
        seg.PerFrameFunctionalGroupsSequence.append(group)
    bits = np.packbits((_stored() > 1500).ravel(), bitorder="little").tobytes()
    seg.PixelData = bits + b"\0" * (len(bits) % 2)
    out = io.BytesIO()
    seg.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _nifti(folder: Path) -> list[tuple[str, bytes]]:
    found = []
    for dtype in (np.int16, np.float32, np.uint8):
        for suffix in (".nii", ".nii.gz"):
            array = _stored(dtype) if dtype != np.uint8 else (_stored() > 1500).astype(np.uint8)
            found.append((f"a{suffix}", write_nifti(folder / f"a{suffix}", array, GRID).read_bytes()))
    four = write_nifti(folder / "t.nii.gz", np.stack([_stored()] * 2), GRID)
    found.append(("t.nii.gz", four.read_bytes()))
    second = nib.Nifti2Image(_stored().transpose(), GRID.nifti_affine, dtype=np.int16)
    found.append(("second.nii", second.to_bytes()))
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    swapped = nib.Nifti1Image(_stored().transpose(), GRID.nifti_affine, header)
    found.append(("swapped.nii", swapped.to_bytes()))
    scaled = nib.Nifti1Image(_stored().transpose(), GRID.nifti_affine)
    scaled.header.set_slope_inter(0.5, -3)
    found.append(("scaled.nii", scaled.to_bytes()))
    return found


def _tiff(folder: Path) -> list[tuple[str, bytes]]:
    array = _stored(np.uint16)
    ways: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "plain": (array[0], {}),
        "pages": (array, {"photometric": "minisblack"}),
        "deflate": (array[0], {"compression": "zlib", "predictor": True}),
        "tiles": (np.tile(array[0], (2, 2)), {"tile": (16, 16)}),
        "big": (array, {"bigtiff": True, "photometric": "minisblack"}),
        "motorola": (array[0], {"byteorder": ">"}),
        "imagej": (array, {"imagej": True, "metadata": {"spacing": 2.0, "unit": "mm"}}),
        "ome": (array, {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeZ": 2.0, "PhysicalSizeZUnit": "mm"}}),
        "colour": (np.stack([array[0].astype(np.uint8)] * 3, -1), {"photometric": "rgb"}),
        "float": (array[0].astype(np.float32), {}),
    }
    found = []
    for name, (pixels, options) in ways.items():
        file = folder / f"{name}{'.ome' if name == 'ome' else ''}.tif"
        tifffile.imwrite(file, pixels, **options)
        found.append((file.name, file.read_bytes()))
    for compression in ("tiff_lzw", "packbits", "jpeg"):
        stream = io.BytesIO()
        Image.fromarray((array[0] % 256).astype(np.uint8)).save(stream, "TIFF", compression=compression)
        found.append((f"{compression}.tif", stream.getvalue()))
    return found


def _png(folder: Path) -> list[tuple[str, bytes]]:
    small = (_stored()[0] % 256).astype(np.uint8)
    grey = Image.fromarray(small)
    pictures = {
        "grey": grey,
        "deep": Image.fromarray(_stored(np.uint16)[0]),
        "palette": grey.convert("P"),
        "colour": Image.fromarray(np.stack([small] * 3, -1)),
        "alpha": Image.fromarray(np.stack([small] * 4, -1)),
        "bits": grey.convert("1"),
        "two": grey.convert("LA"),
    }
    found = []
    for name, picture in pictures.items():
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        found.append((f"{name}.png", stream.getvalue()))
    return found
