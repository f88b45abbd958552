"""DICOM SEG and RTSTRUCT files with known content: SEG by highdicom, RTSTRUCT by hand."""

import warnings

import highdicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLOSED = "CLOSED_PLANAR"


def write_seg(file, images, pixels, kind, labels=("Liver", "Left lung", "Tumour"), **options):
    """`pixels` (z, y, x) with values, or (z, y, x, segment), on the data sets of a series."""
    described = [
        highdicom.seg.SegmentDescription(
            k,
            label,
            codes.SCT.Organ,
            codes.SCT.Liver,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for k, label in enumerate(labels, start=1)
    ]
    names = {"manufacturer": "n", "manufacturer_model_name": "m", "software_versions": "1", "device_serial_number": "1"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = highdicom.seg.Segmentation(
            images, pixels, kind, described, generate_uid(), 1, generate_uid(), 1, **names, **options
        )
        file.parent.mkdir(exist_ok=True)
        seg.save_as(file)
    return file


def write_rt(file, grid, rois, numbers=None, frame="1.2.3", series="1.2.4"):
    """`rois`: name -> contours (type, plane, [(y, x), …]) in voxels of `grid`, or (type, points (n, 3))."""
    rt = Dataset()
    rt.file_meta = FileMetaDataset()
    rt.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rt.SOPClassUID, rt.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", generate_uid()
    rt.SeriesInstanceUID, rt.Modality, rt.PatientName = generate_uid(), "RTSTRUCT", "Doe^Jane"
    referenced, study, drawn_on = Dataset(), Dataset(), Dataset()
    referenced.FrameOfReferenceUID, drawn_on.SeriesInstanceUID = frame, series
    study.RTReferencedSeriesSequence = [drawn_on]
    referenced.RTReferencedStudySequence = [study]
    rt.ReferencedFrameOfReferenceSequence = [referenced]
    rt.StructureSetROISequence, rt.ROIContourSequence = [], []
    for number, (name, contours) in zip(numbers or range(1, 99), rois.items(), strict=False):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = []
        for kind, *where in contours:
            points = [(where[0], *p) for p in where[1]] if len(where) == 2 else where[0]
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
            item.ContourData = [f"{v:.6f}" for v in grid.world(points).ravel()]
            drawn.ContourSequence.append(item)
        rt.StructureSetROISequence.append(roi)
        rt.ROIContourSequence.append(drawn)
    file.parent.mkdir(exist_ok=True)
    rt.save_as(file, enforce_file_format=True)
    return file
