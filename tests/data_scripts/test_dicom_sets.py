"""The scripts for data sets in DICOM, each on a tiny folder of the set's layout."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from skimage.draw import polygon2mask
from structure_files import CLOSED, write_rt

from ndvol.errors import SourceError
from ndvol.formats.writing import DicomOptions, write_dicom_series
from ndvol.geometry import Grid

GRID = Grid.regular("zyx", (4, 12, 14), spacing=(2.5, 0.75, 0.75), origin=(-60, 12, 8))


def write_series(folder, seed, modality="CT", description=""):
    """A series of its own; the files in the order of the planes, their headers, and the voxels."""
    array = np.random.default_rng(len(seed)).integers(0, 900, GRID.shape).astype(np.int16)
    files = write_dicom_series(folder, array, GRID, DicomOptions(modality=modality, seed=seed))
    headers = []
    for file in files:
        header = pydicom.dcmread(file)
        header.SeriesDescription = description
        header.save_as(file)
        headers.append(header)
    return headers, array


# LIDC-IDRI: the XML, by hand.


def outline(header, points, inclusion="TRUE"):
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for y, x in points)
    return (
        f"<roi><imageZposition>{header.ImagePositionPatient[2]} </imageZposition>"
        f"<imageSOP_UID>{header.SOPInstanceUID}</imageSOP_UID><inclusion>{inclusion}</inclusion>{edges}</roi>"
    )


def write_xml(file, *readings, root="LidcReadMessage"):
    """`readings`: for each reader the outlines of each nodule."""
    sessions = "".join(
        "<readingSession><servicingRadiologistID>anonymous</servicingRadiologistID>"
        + "".join(f"<unblindedReadNodule><noduleID>1</noduleID>{''.join(nodule)}</unblindedReadNodule>" for nodule in r)
        + "<nonNodule><nonNoduleID>2</nonNoduleID><locus><xCoord>1</xCoord><yCoord>1</yCoord></locus></nonNodule>"
        "</readingSession>"
        for r in readings
    )
    file.write_text(f'<?xml version="1.0"?>\n<{root} xmlns="http://www.nih.gov">{sessions}</{root}>')


def square(low, high):
    """The pixels of the border of a square, in order, closed."""
    side = range(low, high)
    return [
        *((low, x) for x in side),
        *((y, high) for y in side),
        *((high, x + 1) for x in reversed(side)),
        *((y + 1, low) for y in reversed(side)),
        (low, low),
    ]


def box(plane, low, high):
    mask = np.zeros(GRID.shape, bool)
    mask[plane, low : high + 1, low : high + 1] = True
    return mask


@pytest.fixture
def lidc(tmp_path):
    """The layout of the collection with one scan, and its headers and voxels."""
    folder = tmp_path / "LIDC-IDRI" / "LIDC-IDRI-0001" / "01-01-2000-30178" / "3000566.000000-03192"
    headers, array = write_series(folder, "lidc")
    films = tmp_path / "LIDC-IDRI" / "LIDC-IDRI-0001" / "01-01-2000-35511" / "3000923.000000-62357"
    write_series(films, "film")
    write_xml(films / "084.xml", root="IdriReadMessage")
    return folder, headers, array


def test_lidc(tmp_path, script, lidc):
    folder, headers, array = lidc
    hole, dot = outline(headers[1], square(4, 6), "FALSE"), outline(headers[3], [(9, 9)])
    write_xml(
        folder / "069.xml",
        [[outline(headers[1], square(2, 9)), hole, outline(headers[2], square(3, 8))]],
        [[outline(headers[1], square(3, 8))], [dot], [outline(headers[2], square(9, 11))]],
        [[outline(headers[1], square(3, 8))]],
        [],
    )
    catalog = script("lidc").import_lidc(tmp_path / "LIDC-IDRI", tmp_path / "bundle")
    [(name, case)] = catalog.items()
    assert (name, list(case.images)) == ("LIDC-IDRI-0001", ["CT"])
    np.testing.assert_array_equal(case.images["CT"], array)
    readings = [
        # Inside of the outline, without the hole and the hole's own outline.
        (box(1, 3, 8) & ~box(1, 4, 6)) | box(2, 4, 7),
        box(1, 4, 7) | box(2, 10, 10),
        box(1, 4, 7),
        np.zeros(GRID.shape, bool),
    ]
    np.testing.assert_array_equal(case.labels["labels"], np.sum(readings, axis=0))
    found = {}
    for label in (case.labels[name] for name in case.labels if name.startswith("masks")):
        found |= {category: np.asarray(label) == value for value, category in label.categories.items()}
    assert sorted(found) == ["reader-1", "reader-2", "reader-3", "reader-4"]
    for n, mask in enumerate(readings, start=1):
        np.testing.assert_array_equal(found[f"reader-{n}"], mask)
    assert catalog.categories.descendants("nodule") == ("nodule by 2", "nodule by 3", "nodule by 4")
    assert not [v for v in catalog.verdicts if v.status == "refused"]


def test_what_an_outline_encloses(script):
    """Without a pixel of the outline, also where its points are far apart."""
    points = np.array([(1, 3), (8, 1), (10, 9), (4, 12), (5, 6)])
    inside, edge = script("lidc").enclosed(points, (12, 14))
    # The corners, and the centres between them that a side goes through.
    assert {*map(tuple, np.argwhere(edge).tolist())} == {*map(tuple, points.tolist()), (9, 5), (8, 10), (6, 11)}
    np.testing.assert_array_equal(inside, polygon2mask((12, 14), points) & ~edge)
    assert not (inside & edge).any()


@pytest.mark.parametrize("fault", ["slice", "pixel"])
def test_readings_of_another_series_are_said_and_left_out(tmp_path, script, lidc, capsys, fault):
    folder, headers, _ = lidc
    if fault == "slice":
        headers[1].SOPInstanceUID = "1.2.3"
    write_xml(folder / "069.xml", [[outline(headers[1], square(2, 9 if fault == "slice" else 12))]])
    catalog = script("lidc").import_lidc(tmp_path / "LIDC-IDRI", tmp_path / "bundle")
    assert list(catalog["LIDC-IDRI-0001"].labels) == []
    said = capsys.readouterr().err
    assert "an outline of LIDC-IDRI-0001 does not lie on its series; got slice" in said
    assert "LIDC-IDRI-0001 is imported without labels" in said


def test_a_folder_without_readings(tmp_path, script, lidc):
    with pytest.raises(
        SourceError, match=r"holds no CT series with readings; got LIDC-IDRI-0001; expected LIDC-IDRI-00"
    ):
        script("lidc").import_lidc(tmp_path / "LIDC-IDRI", tmp_path / "bundle")


# VS-SEG and IBSI: structure sets.


def draw(file, header, name, plane, low, high):
    """A structure set with one square, which holds the centres from `low` to `high`."""
    corners = [(low - 0.4, low - 0.4), (low - 0.4, high + 0.4), (high + 0.4, high + 0.4), (high + 0.4, low - 0.4)]
    rois = {name: [(CLOSED, plane, corners)]}
    write_rt(file, GRID, rois, frame=header.FrameOfReferenceUID, series=header.SeriesInstanceUID)


def patient(folder):
    """T1 and T2 of a patient with their structures, and a plan; voxels by weighting."""
    arrays = {}
    for weighting, drawn in (("t1", ("TV", 1, 3, 6)), ("t2", ("Cochlea", 2, 2, 4))):
        series = folder / "1.3.6.1" / weighting
        headers, arrays[weighting] = write_series(series, f"vs {weighting}", "MR", f"{weighting}_mpr_tra_Gd")
        draw(folder / "1.3.6.1" / f"structures of {weighting}" / "1-1.dcm", headers[0], *drawn)
    write_series(folder / "1.3.6.1" / "dose", "vs dose", "PT")
    return arrays


def test_vs_seg(tmp_path, script):
    arrays = patient(tmp_path / "raw" / "VS-SEG-001")
    catalog = script("vs_seg").import_vs_seg(tmp_path / "raw", tmp_path / "bundle")
    assert list(catalog) == ["VS-SEG-001-T1", "VS-SEG-001-T2"]
    for weighting, category, mask in (
        ("t1", "vestibular schwannoma", box(1, 3, 6)),
        ("t2", "cochlea", box(2, 2, 4)),
    ):
        case = catalog[f"VS-SEG-001-{weighting.upper()}"]
        np.testing.assert_array_equal(case.images["MR"], arrays[weighting])
        [label] = case.labels.values()
        [(value, name)] = label.categories.items()
        assert name == category
        np.testing.assert_array_equal(np.asarray(label) == value, mask)
    assert catalog.categories.ancestors("vestibular schwannoma") == ("tumor",)


def test_a_patient_without_structures_is_named(tmp_path, script):
    patient(tmp_path / "raw" / "VS-SEG-001")
    (tmp_path / "raw" / "VS-SEG-001" / "1.3.6.1" / "structures of t2" / "1-1.dcm").unlink()
    match = (
        r"VS-SEG-001 has not one T2 series with its RTSTRUCT; got 1 series and 0 RTSTRUCT; expected VS-SEG-001/<study>"
    )
    with pytest.raises(SourceError, match=match):
        script("vs_seg").import_vs_seg(tmp_path / "raw", tmp_path / "bundle")
    with pytest.raises(SourceError, match=r"holds no folders VS-SEG-\*; got raw; expected"):
        script("vs_seg").import_vs_seg(tmp_path, tmp_path / "bundle")


def ibsi_repository(root, nifti):
    """Image and mask of each set, in both forms; by case, in NIfTI."""
    arrays = {}
    phantom, check = root / "ibsi_1_ct_radiomics_phantom", root / "ibsi_2_digital_phantom"
    patient = root / "ibsi_validation" / "nifti" / "STS_001"
    for case, image, mask in (
        ("ibsi_1_ct_radiomics_phantom", phantom / "nifti/image/phantom", phantom / "nifti/mask/mask"),
        ("ibsi_2_digital_phantom-sphere", check / "nifti/sphere/image/sphere", check / "nifti/sphere/mask/mask"),
        *((f"ibsi_validation-STS_001-{m}", patient / f"{m}_image", patient / f"{m}_mask") for m in ("CT", "PET")),
    ):
        arrays[case] = nifti(image.with_suffix(".nii.gz")), nifti(mask.with_suffix(".nii.gz"), (1,))
    headers, arrays["dicom"] = write_series(phantom / "dicom" / "image", "ibsi 1")
    draw(phantom / "dicom" / "mask" / "DCM_RS_00060.dcm", headers[0], "GTV-1", 1, 3, 6)
    write_series(check / "dicom" / "sphere", "ibsi 2 sphere")
    deprecated = root / "ibsi_1_digital_phantom" / "dicom_deprecated" / "image"
    write_series(deprecated, "ibsi digital")
    return arrays


def test_ibsi(tmp_path, script, nifti):
    arrays = ibsi_repository(tmp_path / "data_sets", nifti)
    catalog = script("ibsi").import_ibsi(tmp_path / "data_sets", tmp_path / "bundle")
    assert {name: (list(case.images), list(case.labels)) for name, case in catalog.items()} == {
        "ibsi_1_ct_radiomics_phantom": (["image"], ["mask"]),
        "ibsi_2_digital_phantom-sphere": (["image"], ["mask"]),
        "ibsi_validation-STS_001-CT": (["image"], ["mask"]),
        "ibsi_validation-STS_001-PET": (["image"], ["mask"]),
    }
    for name, case in catalog.items():
        [image], [mask] = case.images.values(), case.labels.values()
        np.testing.assert_array_equal(image, arrays[name][0])
        np.testing.assert_array_equal(mask, arrays[name][1])
        assert mask.categories == {1: "ROI"}
    assert {v.status for v in catalog.verdicts} == {"imported"}


def test_ibsi_as_dicom(tmp_path, script, nifti):
    array = ibsi_repository(tmp_path / "data_sets", nifti)["dicom"]
    for source in (tmp_path / "data_sets", tmp_path / "data_sets" / "ibsi_1_ct_radiomics_phantom" / "dicom"):
        catalog = script("ibsi").import_ibsi(source, tmp_path / "bundle", "dicom")
        assert list(catalog) == ["ibsi_1_ct_radiomics_phantom", "ibsi_2_digital_phantom-sphere"]
    case = catalog["ibsi_1_ct_radiomics_phantom"]
    np.testing.assert_array_equal(case.images["CT"], array)
    np.testing.assert_array_equal(np.asarray(case.labels["structures"]) == 1, box(1, 3, 6))
    assert catalog.categories.names == ("ROI",)
    (tmp_path / "none" / "a").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"holds no files in folders called dicom; got a; expected ibsi_1_ct_radiomi"):
        script("ibsi").import_ibsi(tmp_path / "none", tmp_path / "b2", "dicom")
