"""Sources of every kind full of strings that must not leave them: canaries."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import tifffile
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RTStructureSetStorage, generate_uid

from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti
from ndvol.geometry import Grid

GRID = Grid.regular("zyx", (6, 8, 10), spacing=(3, 1, 1), origin=(-5, 4, 20))
TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
BYTE_VRS = ("OB", "UN")
_NEEDED = """
SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality ImageType
ImagePositionPatient ImageOrientationPatient PixelSpacing PhotometricInterpretation RescaleSlope
RescaleIntercept RescaleType NumberOfFrames InstanceNumber Units SpecificCharacterSet EchoTime PixelPaddingValue
"""
NEEDED = frozenset(_NEEDED.split())
"""What a series cannot do without; canaries in some of them are planted in series that shall be refused."""

_SPOILT = """
ImagePositionPatient ImageOrientationPatient PixelSpacing RescaleSlope RescaleType Modality ImageType Rows
PhotometricInterpretation NumberOfFrames InstanceNumber PixelPaddingValue BitsStored SOPClassUID
"""
_PIXELS = "Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel"
_PATIENT = "PatientID PatientName PatientBirthDate PatientSex StudyID StudyDate StudyTime AccessionNumber"


class Canaries:
    """Hands out strings that occur nowhere else, and remembers where each was planted."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def text(self, where: str) -> str:
        return self._plant(f"Qx{len(self.planted):04d}zK", where)

    def date(self, where: str) -> str:
        """Eight digits, as a birth date or a record number."""
        return self._plant(f"{18470000 + len(self.planted)}", where)

    def uid(self, where: str) -> str:
        return self._plant(f"1.2.826.0.1.77777.{len(self.planted)}.5", where)

    def _plant(self, canary: str, where: str) -> str:
        self.planted[canary] = where
        return canary


def array(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-500, 500, GRID.shape).astype(np.int16)


def square() -> np.ndarray:
    mask = np.zeros(GRID.shape, np.uint8)
    mask[1:3, 2:5, 3:7] = 1
    return mask


def build(root: Path, c: Canaries) -> Path:
    """Fill the folder `root` with sources of every kind, sound and defective."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        plant_dicom(root / c.text("folder of DICOM"), c)
        _nifti(root / c.text("folder of NIfTI"), c)
        _other_volumes(root / c.text("folder of NRRD and MHA"), c)
        _pictures(root / c.text("folder of pictures"), c)
        _nnunet(root / c.text("nnU-Net"), c)
        _bids(root / c.text("BIDS"), c)
    (root / f"{c.text('unknown file')}.doc").write_text(c.text("text of an unknown file"))
    return root


def plant_dicom(folder: Path, c: Canaries) -> None:
    files = _series(folder / c.text("folder of a series"), "CT", c)
    for k, file in enumerate(files):
        file.rename(file.with_name(f"{c.text('DICOM file name')}-{k}"))
    sound = sorted(files[0].parent.iterdir(), key=lambda file: pydicom.dcmread(file).InstanceNumber)
    _full_of_canaries(sound, c)
    images = [pydicom.dcmread(file) for file in sound]
    _seg(folder / f"{c.text('SEG file name')}.dcm", images, c)
    _rtstruct(folder / f"{c.text('RTSTRUCT file name')}.dcm", images[0], c)
    for modality in ("MR", "PT"):
        for file in _series(folder / c.text(f"folder of {modality}"), modality, c):
            _edit(file, PatientName=c.text("PatientName"), Units=c.text("Units"), ConvolutionKernel=c.text("kernel"))
    _echoes(folder / c.text("folder of two echoes"), c)
    _defects(folder / c.text("folder of defects"), c)


def _series(folder: Path, modality: str, c: Canaries) -> list[Path]:
    files = write_dicom_series(folder, array(), GRID, DicomOptions(seed=c.text("series"), modality=modality))
    uids = {k: c.uid(k) for k in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    for file in files:
        _edit(file, **uids, SOPInstanceUID=c.uid("SOPInstanceUID"))
    return files


def _edit(file: Path, **values: object) -> None:
    dataset = pydicom.dcmread(file)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
        if keyword == "SOPInstanceUID":
            dataset.file_meta.MediaStorageSOPInstanceUID = value
    dataset.save_as(file)


def _full_of_canaries(files: list[Path], c: Canaries, per_vr: int = 10) -> None:
    """Each text VR in up to 10 elements, on the top level, nested and private; preamble, overlay, curve, ICC, meta."""
    for k, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        _fill(dataset, c, slice(k * 3, per_vr + k * 3))
        inner, middle = Dataset(), Dataset()
        _fill(inner, c, slice(2))
        middle.add_new("OtherPatientIDsSequence", "SQ", [inner])
        dataset.add_new("RequestAttributesSequence", "SQ", [middle])
        for group in (0x0009, 0x0029, 0x0051):
            block = dataset.private_block(group, c.text("private creator"), create=True)
            block.add_new(1, "LO", c.text("private LO"))
            block.add_new(2, "UN", c.text("private UN").encode())
            block.add_new(3, "SQ", [_private_item(c)])
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", b"SV10\4\3\2\1" + c.text("CSA header").encode())
        dataset.preamble = c.text("preamble").encode().ljust(128, b"\0")
        dataset.add_new(0x60000022, "LO", c.text("OverlayDescription"))
        dataset.add_new(0x60001500, "LO", c.text("OverlayLabel"))
        dataset.add_new(0x60003000, "OW", c.text("OverlayData").encode().ljust(10, b"\0"))
        dataset.add_new(0x50000022, "LO", c.text("CurveDescription"))
        dataset.add_new(0x50003000, "OW", c.text("CurveData").encode().ljust(10, b"\0"))
        dataset.ICCProfile = c.text("ICCProfile").encode().ljust(12, b"\0")
        dataset.PatientName = f"{c.text('family name')}^{c.text('given name')}=\xc4\xd6"
        dataset.file_meta.ImplementationVersionName = c.text("ImplementationVersionName")
        dataset.file_meta.SourceApplicationEntityTitle = c.text("SourceApplicationEntityTitle")
        dataset.save_as(file)


def _private_item(c: Canaries) -> Dataset:
    item = Dataset()
    item.PatientComments = c.text("text inside a private sequence")
    return item


def _fill(dataset: Dataset, c: Canaries, which: slice) -> None:
    for vr in (*TEXT_VRS, *BYTE_VRS):
        tags = [t for t, row in DicomDictionary.items() if row[0] == vr and not row[3] and 0x0008 <= t >> 16 < 0x3000]
        usable = [t for t in tags if keyword_for_tag(t) and keyword_for_tag(t) not in NEEDED]
        for tag in usable[which]:
            where = f"{vr} {keyword_for_tag(tag)}"
            plant = {"UI": c.uid, "DA": c.date, "DT": c.date, "IS": c.date}.get(vr, c.text)
            value: str | bytes = plant(where)
            if vr in BYTE_VRS:
                value = str(value).encode().ljust(10, b"\0")
            # As it is: pydicom would make a number of it.
            dataset._dict[pydicom.tag.Tag(tag)] = pydicom.dataelem.RawDataElement(
                pydicom.tag.Tag(tag),
                vr,
                len(value),
                value.encode() if isinstance(value, str) else value,
                0,
                False,
                True,
            )


def _echoes(folder: Path, c: Canaries) -> None:
    for echo in (1, 2):
        options = DicomOptions(seed="echoes", modality="MR")
        for file in write_dicom_series(folder / str(echo), array(echo), GRID, options):
            values = {"ProtocolName": c.text("ProtocolName"), "SOPInstanceUID": generate_uid()}
            _edit(file, EchoTime=echo * 10, ImageType=["ORIGINAL", "PRIMARY", c.text("ImageType")], **values)


def _defects(folder: Path, c: Canaries) -> None:
    """Series whose offending values are canaries, so that errors would like to quote them."""
    for keyword in _SPOILT.split():
        for file in _series(folder / c.text(f"folder of a bad {keyword}"), "CT", c):
            data = file.read_bytes()
            tag = pydicom.datadict.tag_for_keyword(keyword)
            dataset = pydicom.dcmread(file)
            value = c.text(keyword).encode()
            vr = pydicom.datadict.dictionary_VR(keyword).replace("US or SS", "SS")
            raw = value if vr not in ("US", "SS") else value[:2]
            dataset._dict[pydicom.tag.Tag(tag)] = pydicom.dataelem.RawDataElement(
                pydicom.tag.Tag(tag), vr, len(raw), raw, 0, False, True
            )
            dataset.save_as(file)
            assert data != file.read_bytes()
    for file in _series(folder / c.text("folder of cut files"), "CT", c):
        file.write_bytes(file.read_bytes()[:-100])
    _series(folder / c.text("folder with a gap"), "CT", c)[3].unlink()
    for syntax in ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.50"):
        for file in _series(folder / c.text("folder of damaged pixels"), "CT", c):
            dataset = pydicom.dcmread(file)
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
            dataset.PixelData = pydicom.encaps.encapsulate([c.text("pixel data").encode()])
            dataset["PixelData"].is_undefined_length = True
            dataset.save_as(file)
    options = DicomOptions(seed="twice")
    for turn in (1, 2):
        for file in write_dicom_series(folder / c.text("folder of doubled slices"), array(turn), GRID, options):
            values = {"SOPInstanceUID": generate_uid(), "ConvolutionKernel": c.text("one of two kernels")}
            _edit(file, SeriesDescription=c.text("SeriesDescription"), **values)


def _seg(file: Path, images: list[Dataset], c: Canaries) -> None:
    described = [
        SegmentDescription(
            k, c.text("SegmentLabel"), codes.SCT.Organ, codes.SCT.Liver, SegmentAlgorithmTypeValues.MANUAL
        )
        for k in (1, 2)
    ]
    who = ("manufacturer", "manufacturer_model_name", "software_versions", "device_serial_number")
    pixels = np.stack([square(), np.roll(square(), 1, 1)], -1)
    texts = {name: c.text(name) for name in (*who, "content_creator_name", "series_description")}
    # highdicom checks what it reads; the image's own canaries are in the way of that.
    plain = [_plain(image) for image in images]
    seg = highdicom.seg.Segmentation(
        plain, pixels, "BINARY", described, c.uid("SEG series"), 1, c.uid("SEG instance"), 1, **texts
    )
    seg.save_as(file)


def _plain(image: Dataset) -> Dataset:
    kept = NEEDED | set(_PIXELS.split())
    plain = Dataset()
    plain.file_meta = image.file_meta
    for keyword in sorted(kept & set(image.dir())):
        plain.add(image[keyword])
    for keyword in _PATIENT.split():
        setattr(plain, keyword, None)
    plain.ReferringPhysicianName, plain.SliceThickness = None, 3
    return plain


def _rtstruct(file: Path, image: Dataset, c: Canaries) -> None:
    dataset = _plain(image)
    for keyword in ("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, keyword)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = c.uid("RTSTRUCT instance")
    dataset.SeriesInstanceUID, dataset.Modality = c.uid("RTSTRUCT series"), "RTSTRUCT"
    dataset.StructureSetLabel = c.text("StructureSetLabel")
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = image.FrameOfReferenceUID, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    corners = [GRID.world((2, y, x)) for y, x in ((1, 1), (1, 6), (5, 6), (5, 1))]
    # The third has no contour, the fourth only a point: both are named in warnings.
    for number, kind, points in ((1, "CLOSED_PLANAR", 4), (2, "CLOSED_PLANAR", 3), (3, "", 0), (4, "POINT", 1)):
        roi, contours, contour = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, f"{c.text('ROIName')}\t{c.text('ROIName')}"
        roi.ReferencedFrameOfReferenceUID, roi.ROIDescription = image.FrameOfReferenceUID, c.text("ROIDescription")
        contours.ReferencedROINumber = number
        contour.ContourGeometricType, contour.NumberOfContourPoints = kind, points
        contour.ContourData = [float(v) for corner in corners[:points] for v in corner]
        contours.ContourSequence = [contour] if points else []
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(contours)
    dataset.save_as(file, enforce_file_format=True)


def _nifti(folder: Path, c: Canaries) -> None:
    for k in range(4):
        name = c.text("NIfTI name")
        file = write_nifti(folder / "images" / f"{name}.nii{'.gz' * (k % 2)}", array(k), GRID)
        image = nib.load(file)
        image = nib.Nifti1Image(np.array(image.dataobj), image.affine, image.header)
        for key in ("descrip", "aux_file", "intent_name", "db_name"):
            image.header[key] = c.text(f"NIfTI {key}").encode()
        for code in ("comment", "dicom", "afni"):
            image.header.extensions.append(nib.nifti1.Nifti1Extension(code, c.text(f"extension {code}").encode()))
        image.to_filename(file)
        # The last has its label off the grid.
        grid = GRID if k < 3 else Grid.regular("zyx", GRID.shape, spacing=(3, 1, 1))
        write_nifti(folder / "labels" / f"{name}.nii.gz", square() * (1 + k), grid)
    write_nifti(folder / "labels" / f"{c.text('label without image')}.nii.gz", square(), GRID)
    one = folder / c.text("folder of a case with masks")
    write_nifti(one / f"{c.text('NIfTI name')}.nii.gz", array(), GRID)
    for k in range(3):
        write_nifti(one / "segmentations" / f"{c.text('mask name')}.nii.gz", np.roll(square(), k, 1), GRID)
    bad = folder / c.text("folder of defective NIfTI")
    whole = write_nifti(bad / f"{c.text('cut NIfTI')}.nii", array(), GRID)
    whole.write_bytes(whole.read_bytes()[:400])
    (bad / f"{c.text('no gzip')}.nii.gz").write_bytes(c.text("text in a .nii.gz").encode())
    (bad / f"{c.text('no NIfTI')}.nii").write_bytes(c.text("text in a .nii").encode() * 100)


def _other_volumes(folder: Path, c: Canaries) -> None:
    folder.mkdir(parents=True)
    header = "type: int16\ndimension: 3\nsizes: 4 3 2\nencoding: raw\nendian: little\n"
    data = np.arange(24, dtype="<i2").tobytes()
    for extra in ("", f"space: {c.text('NRRD space')}\n", f"kinds: {c.text('NRRD kinds')}\n"):
        text = f"NRRD0004\n# {c.text('NRRD comment')}\n{header}{extra}content: {c.text('NRRD content')}\n"
        text += f"{c.text('NRRD key')}:={c.text('NRRD value')}\n\n"
        (folder / f"{c.text('NRRD name')}.nrrd").write_bytes(text.encode() + data)
    lines = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_SHORT\nElementSpacing = 1 1 1\n"
    for file in ("LOCAL", f"{c.text('MHA data file')}.raw"):
        text = f"Comment = {c.text('MHA comment')}\nName = {c.text('MHA Name')}\n{lines}ElementDataFile = {file}\n"
        (folder / f"{c.text('MHA name')}.mha").write_bytes(text.encode() + data)
    np.savez(folder / f"{c.text('npz name')}.npz", **{c.text("npz member"): array(), c.text("npz member"): array()})
    np.save(folder / f"{c.text('npy name')}.npy", array())
    np.save(folder / f"{c.text('pickled npy')}.npy", np.array([c.text("pickled")], object), allow_pickle=True)


def _pictures(folder: Path, c: Canaries) -> None:
    stack, broken = folder / c.text("picture folder"), folder / c.text("broken pictures")
    for target in (stack, broken):
        target.mkdir(parents=True)
        stem = c.text("picture stem")
        for k in range(3):
            info = PngInfo()
            info.add_text("Comment", c.text("PNG tEXt"))
            info.add_itxt("Author", c.text("PNG iTXt"))
            info.add_text("Description", c.text("PNG zTXt"), zip=True)
            exif = Image.Exif()
            exif[0x010E] = c.text("EXIF ImageDescription")
            number = k if target == stack else 3 * k
            file = target / f"{stem}{number:03d}.png"
            Image.fromarray(array()[k].astype(np.uint8)).save(file, pnginfo=info, exif=exif)
    tiffs = folder / c.text("TIFF folder")
    tiffs.mkdir()
    for k, photometric in enumerate(("minisblack", "miniswhite")):
        tags = [(315, "s", 0, c.text("TIFF Artist"), True), (65000, "s", 0, c.text("TIFF private tag"), True)]
        described = {"description": c.text("TIFF ImageDescription"), "software": c.text("TIFF Software")}
        file = tiffs / f"{c.text('TIFF name')}.{'tif' if k else 'tiff'}"
        tifffile.imwrite(file, array().astype(np.uint8), photometric=photometric, extratags=tags, **described)
    cut = tiffs / f"{c.text('cut TIFF')}.tif"
    cut.write_bytes(file.read_bytes()[:200])
    (tiffs / f"{c.text('no PNG')}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + c.text("text in a PNG").encode())


def _nnunet(folder: Path, c: Canaries) -> None:
    table = {
        "channel_names": {"0": "CT", "1": c.text("channel name")},
        "labels": {"background": 0, c.text("label name"): [1, 2], c.text("label name"): 2},
        "name": c.text("dataset name"),
        "file_ending": ".nii.gz",
    }
    name = c.text("nnU-Net case")
    for channel in (0, 1):
        write_nifti(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz", array(channel), GRID)
    write_nifti(folder / "labelsTr" / f"{name}.nii.gz", square() * 2, GRID)
    (folder / "dataset.json").write_text(json.dumps(table))


def _bids(root: Path, c: Canaries) -> None:
    subject, session = f"sub-{c.text('BIDS subject')}", f"ses-{c.text('BIDS session')}"
    folder, stem = root / subject / session / "anat", f"{subject}_{session}"
    write_nifti(folder / f"{stem}_acq-{c.text('BIDS acquisition')}_T1w.nii.gz", array(), GRID)
    write_nifti(folder / f"{stem}_{c.text('BIDS suffix')}.nii.gz", array(), GRID)
    (folder / f"{stem}_T1w.json").write_text(json.dumps({"PatientName": c.text("BIDS sidecar")}))
    derived = root / "derivatives" / c.text("BIDS pipeline")
    for entity, values in (("label", square()), ("desc", square() * 3)):
        write_nifti(derived / f"{stem}_{entity}-{c.text(f'BIDS {entity}')}_mask.nii.gz", values, GRID)
    for table in ("index\tname\n1\t{}\n", "index\tname\n{}\tx\n"):
        entity = f"desc-{c.text('BIDS lookup')}"
        write_nifti(derived / f"{stem}_{entity}_dseg.nii.gz", square(), GRID)
        (derived / f"{entity}_dseg.tsv").write_text(table.format(c.text("BIDS lookup content")))
    # One off the grid, one cut.
    off = Grid.regular("zyx", GRID.shape, spacing=(3, 1, 1))
    write_nifti(derived / f"{stem}_space-{c.text('BIDS space')}_dseg.nii.gz", square(), off)
    cut = write_nifti(derived / f"{stem}_desc-{c.text('cut BIDS label')}_dseg.nii", square(), GRID)
    cut.write_bytes(cut.read_bytes()[:400])
