"""Real files from arrays: what the demo and the tests feed to the readers."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from ndvol.errors import SourceError
from ndvol.geometry import Grid

_SOP_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}


@dataclass(frozen=True, slots=True)
class DicomOptions:
    """How `write_dicom_series` fills the headers.

    Attributes
    ----------
    modality : ``CT``, ``MR`` or ``PT``.
    seed : all UIDs and the patient's ID are made from it, so that the same call writes the same bytes.
    slope, intercept : RescaleSlope and RescaleIntercept; the array holds stored values.
    bits_stored : BitsStored; the whole word when None.
    """

    modality: str = "CT"
    seed: str = "ndvol"
    slope: float = 1.0
    intercept: float = 0.0
    bits_stored: int | None = None


def write_dicom_series(
    folder: Path, array: NDArray[Any], grid: Grid, options: DicomOptions = DicomOptions()
) -> list[Path]:
    """Write stored values as a DICOM series, one Explicit VR Little Endian file ``IM0001.dcm`` … per plane.

    Parameters
    ----------
    array : (z, y, x) int16 or uint16.
    grid : in the LPS frame, with orthogonal in-plane axes (z may be sheared: a tilted gantry).

    Returns
    -------
    list : the files in the order of the planes.
    """
    if array.dtype not in (np.int16, np.uint16) or array.shape != grid.shape or grid.frame != "LPS":
        raise SourceError(
            "a DICOM series needs an int16 or uint16 array on an LPS grid of its shape",
            got=f"{array.dtype} {array.shape} on {grid.frame} {grid.shape}",
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for k, plane in enumerate(array):
        dataset = _plane_header(grid, k, options)
        _set_pixels(dataset, plane, options)
        files.append(folder / f"IM{k + 1:04d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def write_enhanced_dicom(file: Path, array: NDArray[Any], grid: Grid, options: DicomOptions = DicomOptions()) -> Path:
    """Write stored values as one enhanced multi-frame file (PS3.3 C.7.6.16), frames time by time.

    Parameters
    ----------
    array : (z, y, x) or (t, z, y, x) int16 or uint16.
    grid : in the LPS frame, of the array's spatial shape.
    """
    dataset = _plane_header(grid, 0, options)
    frames = array.reshape(-1, *grid.shape[-2:])
    _set_pixels(dataset, frames[0], options)
    dataset.PixelData = frames.astype(frames.dtype.newbyteorder("<")).tobytes()
    dataset.NumberOfFrames = len(frames)
    dataset.SOPClassUID = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}[options.modality]
    shared, measures = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, dataset.SliceThickness
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame_groups(grid, t, z, options) for t in range(len(frames) // grid.shape[-3]) for z in range(grid.shape[-3])
    ]
    geometry = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    for keyword in (*geometry, "RescaleSlope", "RescaleIntercept", "RescaleType", "EchoTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(file, enforce_file_format=True)
    return file


def _frame_groups(grid: Grid, t: int, z: int, options: DicomOptions) -> Dataset:
    """The functional groups of one frame: place, values and time."""
    plane = _plane_header(grid, z, options)
    group, position, orientation, values, content = (Dataset() for _ in range(5))
    position.ImagePositionPatient = plane.ImagePositionPatient
    orientation.ImageOrientationPatient = plane.ImageOrientationPatient
    values.RescaleSlope, values.RescaleIntercept = _decimal(options.slope), _decimal(options.intercept)
    values.RescaleType = "HU" if options.modality == "CT" else "US"
    content.StackID, content.InStackPositionNumber, content.TemporalPositionIndex = "1", z + 1, t + 1
    group.PlanePositionSequence, group.PlaneOrientationSequence = [position], [orientation]
    group.PixelValueTransformationSequence, group.FrameContentSequence = [values], [content]
    return group


def _plane_header(grid: Grid, k: int, options: DicomOptions) -> Dataset:
    """Identity and geometry of plane `k` (PS3.3 C.7.6.2)."""

    def uid(*words: object) -> str:
        return str(generate_uid(entropy_srcs=["ndvol", options.seed, options.modality, *map(str, words)]))

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = _SOP_CLASSES[options.modality]
    dataset.SOPInstanceUID = uid("instance", k)
    dataset.StudyInstanceUID = str(generate_uid(entropy_srcs=["ndvol", options.seed, "study"]))
    dataset.SeriesInstanceUID = uid("series")
    dataset.FrameOfReferenceUID = str(generate_uid(entropy_srcs=["ndvol", options.seed, "frame"]))
    dataset.PatientName, dataset.PatientID = f"Synthetic^{options.seed}", options.seed
    dataset.Modality = options.modality
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if options.modality == "CT" else ["ORIGINAL", "PRIMARY"]
    empty = "StudyDate StudyTime AccessionNumber ReferringPhysicianName StudyID PatientBirthDate PatientSex"
    for keyword in [
        *empty.split(),
        "PositionReferenceIndicator",
        "Manufacturer",
        "AcquisitionNumber",
        "PatientPosition",
    ]:
        setattr(dataset, keyword, None)
    dataset.SeriesNumber, dataset.InstanceNumber = 1, k + 1
    step_z, step_y, step_x = grid.spacing
    _, column, row = grid.direction.T
    dataset.ImagePositionPatient = [_decimal(v) for v in grid.world((k, 0, 0))]
    dataset.ImageOrientationPatient = [_decimal(v) for v in (*row, *column)]
    dataset.PixelSpacing = [_decimal(step_y), _decimal(step_x)]
    dataset.SliceThickness = _decimal(step_z)
    return dataset


def _set_pixels(dataset: Dataset, plane: NDArray[Any], options: DicomOptions) -> None:
    bits = options.bits_stored or 8 * plane.dtype.itemsize
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = plane.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * plane.dtype.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(plane.dtype.kind == "i")
    if options.modality != "MR":
        dataset.RescaleSlope, dataset.RescaleIntercept = _decimal(options.slope), _decimal(options.intercept)
    if options.modality == "CT":
        dataset.RescaleType, dataset.KVP = "HU", None
    if options.modality == "MR":
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "GR", "NONE", None
        dataset.MRAcquisitionType, dataset.RepetitionTime, dataset.EchoTime = "3D", "10", "4"
        dataset.EchoTrainLength = None
    if options.modality == "PT":
        dataset.Units, dataset.CountsSource, dataset.SeriesType = "BQML", "EMISSION", ["WHOLE BODY", "IMAGE"]
    dataset.PixelData = np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder("<")).tobytes()


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2, DS)."""
    for digits in range(15, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise AssertionError(value)


def write_nifti(path: Path, array: NDArray[Any], grid: Grid) -> Path:
    """Write (z, y, x) or (t, z, y, x) voxels as NIfTI-1 with sform, qform and mm; gzip without a timestamp."""
    image = nib.Nifti1Image(array.transpose(), grid.nifti_affine, dtype=array.dtype)
    image.set_sform(grid.nifti_affine, code=1)
    image.set_qform(grid.nifti_affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    data = image.to_bytes()
    path.write_bytes(gzip.compress(data, 6, mtime=0) if path.name.endswith(".gz") else data)
    return path


def write_pictures(folder: Path, array: NDArray[Any], *, stem: str = "slice", suffix: str = ".png") -> list[Path]:
    """Write (z, y, x) uint8 or uint16 voxels as numbered grey pictures ``<stem>001.png`` …; PNG or TIFF."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{stem}{k + 1:03d}{suffix}" for k in range(len(array))]
    for file, plane in zip(files, array, strict=True):
        if suffix == ".tif":
            tifffile.imwrite(file, plane, photometric="minisblack")
        else:
            Image.fromarray(np.ascontiguousarray(plane)).save(file)
    return files
