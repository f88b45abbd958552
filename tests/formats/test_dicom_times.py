"""Repeated positions: a t axis, volumes of their own, or a reason."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from ndvol.formats.dicom import DicomReader
from ndvol.formats.writing import DicomOptions, write_dicom_series

READER = DicomReader()
MR = DicomOptions(modality="MR")


@pytest.fixture
def write(tmp_path, voxels, oblique, edit):
    """Write one series of several times; `facts(t, z)` gives each file's own elements. Returns the truth."""

    def run(count, facts, options=MR):
        series = None
        for t in range(count):
            folder = tmp_path / f"t{t}"
            files = write_dicom_series(folder, voxels + t, oblique, replace(options, seed=f"{options.seed}{t}"))
            for z, file in enumerate(files):
                header = pydicom.dcmread(file)
                series = series or {k: header[k].value for k in ("SeriesInstanceUID", "StudyInstanceUID")}
                series.setdefault("FrameOfReferenceUID", header.FrameOfReferenceUID)
                edit(file, **series, **facts(t, z))
                file.rename(tmp_path / f"{(t * 37 + z * 11) % 101:03d}-{t}-{z}")
            folder.rmdir()
        return np.stack([voxels + t for t in range(count)])

    return run


def axis(volume):
    return volume.attributes["t_axis"], json.loads(volume.attributes["t_values"])


Z = 6


@pytest.mark.parametrize(
    ("facts", "key", "values"),
    [
        (lambda t, z: {"EchoTime": str((4.9, 7.4, 9.9)[t]), "InstanceNumber": 1}, "EchoTime", [4.9, 7.4, 9.9]),
        (lambda t, z: {"TemporalPositionIdentifier": t + 1}, "TemporalPositionIdentifier", [1, 2, 3]),
        (lambda t, z: {"AcquisitionTime": f"1200{t:02d}.5"}, "AcquisitionTime", [0, 1, 2]),
        (
            lambda t, z: {
                "AcquisitionDate": f"202401{10 + (t > 0)}",
                "AcquisitionTime": ("235959", "000001", "000003")[t],
            },
            "AcquisitionTime",
            [0, 2, 4],
        ),
        # Slices of one time are taken one after another, interleaved.
        (lambda t, z: {"AcquisitionTime": f"1200{10 * t + z * 5 % 6:02d}"}, "AcquisitionTime", [0, 10, 20]),
        # Heart phases: every slice has its own beat.
        (
            lambda t, z: {"TriggerTime": str(t * (100 + 60 * z)), "InstanceNumber": z * 3 + t},
            "TriggerTime",
            [0, 100, 200],
        ),
        (lambda t, z: {"InstanceNumber": z * 3 + t}, "InstanceNumber", [0, 1, 2]),
        (lambda t, z: {"InstanceNumber": t * Z + z, "AcquisitionNumber": t + 1}, "AcquisitionNumber", [1, 2, 3]),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_planes_at_one_position_become_a_t_axis(tmp_path, write, oblique, read_one, facts, key, values):
    truth = write(3, facts)
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.grid.shape) == ("tzyx", (3, *oblique.shape))
    np.testing.assert_array_equal(volume.array, truth)
    np.testing.assert_allclose(volume.grid.affine, oblique.affine, atol=1e-6)
    assert axis(volume) == (key, values)
    assert ("nothing but InstanceNumber orders the t axis" in volume.warnings) == (key == "InstanceNumber")


def test_every_plane_of_every_time_lies_where_its_header_puts_it(tmp_path, write, scan):
    write(2, lambda t, z: {"EchoTime": str(t + 1)})
    series = scan(READER, tmp_path).series[0]
    grid = READER.read(tmp_path, series).grid
    for k, path in enumerate(series.files):
        header = pydicom.dcmread(tmp_path / path)
        assert header.EchoTime == k // Z + 1
        np.testing.assert_allclose(grid.world((k % Z, 0, 0)), header.ImagePositionPatient, atol=1e-6)


def test_diffusion_keeps_the_order_of_acquisition(tmp_path, write, read_one):
    def facts(t, z):
        b, g = [(0, [0, 0, 0]), (1000, [0, 1, 0]), (0, [0, 0, 0]), (1000, [1, 0, 0])][t]
        return {"DiffusionBValue": b, "DiffusionGradientOrientation": g, "AcquisitionTime": f"1200{t:02d}"}

    truth = write(4, facts)
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, truth)
    assert json.loads(volume.attributes["t_DiffusionBValue"]) == [0, 1000, 0, 1000]
    assert json.loads(volume.attributes["t_DiffusionGradientOrientation"])[3] == [1, 0, 0]


def test_clock_times_are_kept_beside_other_keys(tmp_path, write, read_one):
    write(3, lambda t, z: {"TemporalPositionIdentifier": t, "AcquisitionTime": f"1200{t * 10 + z:02d}"})
    attributes = read_one(READER, tmp_path).attributes
    assert (attributes["t_axis"], attributes["t_AcquisitionTime"]) == (
        "TemporalPositionIdentifier",
        "[0.0, 10.0, 20.0]",
    )


def test_one_b_value_in_several_directions(tmp_path, write, read_one):
    axes = np.eye(3).tolist()
    write(3, lambda t, z: {"DiffusionBValue": 1000, "DiffusionGradientOrientation": axes[t], "InstanceNumber": 1})
    volume = read_one(READER, tmp_path)
    assert axis(volume) == ("DiffusionBValue", [1000, 1000, 1000])
    assert sorted(json.loads(volume.attributes["t_DiffusionGradientOrientation"])) == sorted(axes)


@pytest.mark.parametrize(
    ("creator", "tag", "vr", "values"),
    [
        ("SIEMENS MR HEADER", 0x0019100C, "IS", ["1000", "0", "500"]),
        ("GEMS_PARM_01", 0x00431039, "IS", [[1000001000, 8, 0, 0], [0, 8, 0, 0], [1000000500, 8, 0, 0]]),
        ("Philips Imaging DD 001", 0x20011003, "FL", [1000.0, 0.0, 500.0]),
        ("Image Private Header", 0x00651009, "FD", [1000.0, 0.0, 500.0]),
    ],
)
def test_private_b_values_tell_planes_apart(tmp_path, write, read_one, creator, tag, vr, values):
    truth = write(3, lambda t, z: {"EchoTime": str(t), "InstanceNumber": 1})
    for file in tmp_path.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.add_new((tag & 0xFFFF0000) + 0x10, "LO", creator)
        dataset.add_new(tag, vr, values[int(dataset.EchoTime)])
        dataset.EchoTime = "5"
        dataset.save_as(file)
    volume = read_one(READER, tmp_path)
    assert axis(volume) == ("DiffusionBValue", [0, 500, 1000])
    np.testing.assert_array_equal(volume.array, truth[[1, 2, 0]])


def test_echoes_over_time_are_sorted_by_both(tmp_path, write, read_one):
    truth = write(
        6, lambda t, z: {"EchoTime": str(t % 2 + 1), "AcquisitionTime": f"1200{t // 2:02d}", "InstanceNumber": 1}
    )
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, truth[[0, 2, 4, 1, 3, 5]])
    assert volume.attributes["t_axis"] == "EchoTime+AcquisitionTime"
    assert json.loads(volume.attributes["t_AcquisitionTime"]) == [0, 1, 2, 0, 1, 2]


def test_kinds_are_volumes_of_their_own(tmp_path, write, scan):
    kinds = ("M", "P", "R")
    truth = write(3, lambda t, z: {"ImageType": ["ORIGINAL", "PRIMARY", kinds[t]], "EchoTime": "5"})
    found = scan(READER, tmp_path)
    assert [(v.status, v.files) for v in found.verdicts] == [("split", 18)]
    assert len({s.name for s in found.series}) == len({s.source for s in found.series}) == 3
    for series, voxels in zip(found.series, truth, strict=True):
        assert series.axes == "zyx"
        np.testing.assert_array_equal(READER.read(tmp_path, series).array, voxels)


def test_a_scan_that_was_stopped_loses_its_last_time_only(tmp_path, write, scan):
    truth = write(4, lambda t, z: {"AcquisitionTime": f"1200{10 * t + z:02d}"})
    for file in [*tmp_path.glob("*-3-4"), *tmp_path.glob("*-3-5")]:
        file.unlink()
    found = scan(READER, tmp_path)
    assert [(v.status, v.code, v.files) for v in found.verdicts] == [
        ("split", "split", 22),
        ("refused", "partial-time", 4),
    ]
    np.testing.assert_array_equal(READER.read(tmp_path, found.series[0]).array, truth[:3])


def test_a_slice_missing_in_the_middle_is_not_papered_over(tmp_path, write, scan):
    write(3, lambda t, z: {"EchoTime": str(t + 1)})
    next(tmp_path.glob("*-1-2")).unlink()
    found = scan(READER, tmp_path)
    assert [(v.status, v.code, v.files) for v in found.verdicts] == [
        ("split", "split", 17),
        ("refused", "partial-time", 5),
    ]
    assert axis(READER.read(tmp_path, found.series[0])) == ("EchoTime", [1, 3])


def test_a_slice_missing_everywhere_is_refused(tmp_path, write, refusal):
    write(2, lambda t, z: {"EchoTime": str(t + 1)})
    for file in tmp_path.glob("*-2"):
        file.unlink()
    assert refusal(READER, tmp_path)[0] == "missing-slices"


def test_unequal_counts_are_listed(tmp_path, write, refusal):
    write(2, lambda t, z: {"AcquisitionNumber": t})
    for file in [*tmp_path.glob("*-0-1"), *tmp_path.glob("*-1-4")]:
        file.unlink()
    code, message = refusal(READER, tmp_path)
    assert code == "unequal-counts"
    assert "fewer at 2 of 6 positions: 1 (1), 4 (1)" in message


@pytest.mark.parametrize(
    "facts",
    [
        lambda t, z: {"InstanceNumber": 1},
        lambda t, z: {"InstanceNumber": 1, "AcquisitionNumber": t},
        # Steps that differ from slice to slice: no common order.
        lambda t, z: {"InstanceNumber": 100 - t * (z + 1)},
        # Times that interleave, by steps that differ, and nothing agrees.
        lambda t, z: {"InstanceNumber": 1, "TriggerTime": str(t * 10 * (z + 1) + z * 3)},
    ],
)
def test_what_nothing_puts_in_order_is_refused(tmp_path, write, refusal, facts):
    write(3, facts)
    code, message = refusal(READER, tmp_path)
    assert code == "duplicate-slices"
    assert "3 slices lie at each of 6 positions" in message


def test_a_slice_taken_twice_is_refused(tmp_path, write, refusal):
    write(2, lambda t, z: {"AcquisitionTime": f"12000{t}"})
    for z in range(1, Z):
        next(tmp_path.glob(f"*-1-{z}")).unlink()
    assert refusal(READER, tmp_path)[0] == "unequal-counts"


def test_instance_number_alone_proves_nothing_in_ct(tmp_path, write, refusal, edit):
    write(2, lambda t, z: {"InstanceNumber": t * Z + z}, DicomOptions(modality="CT"))
    assert refusal(READER, tmp_path)[0] == "duplicate-slices"


def test_a_stated_number_of_times_supports_the_instance_number(tmp_path, write, read_one):
    write(2, lambda t, z: {"InstanceNumber": t * Z + z, "NumberOfTemporalPositions": 2}, DicomOptions(modality="CT"))
    assert not read_one(READER, tmp_path).warnings


def test_many_acquisition_numbers_are_still_one_volume(tmp_path, write, read_one, voxels):
    write(1, lambda t, z: {"AcquisitionNumber": z // 2, "EchoTime": str(z), "AcquisitionTime": f"1200{z:02d}"})
    volume = read_one(READER, tmp_path)
    assert volume.grid.axes == "zyx"
    np.testing.assert_array_equal(volume.array, voxels)


def test_a_single_slice_over_time(tmp_path, write, read_one):
    truth = write(5, lambda t, z: {"TriggerTime": str(40 * t)})
    for file in tmp_path.iterdir():
        if not file.name.endswith("-3"):
            file.unlink()
    volume = read_one(READER, tmp_path)
    assert volume.grid.shape == (5, 1, 5, 4)
    np.testing.assert_array_equal(volume.array[:, 0], truth[:, 3])


def test_one_slope_per_time(tmp_path, write, read_one):
    truth = write(2, lambda t, z: {"EchoTime": str(t), "RescaleSlope": str(t + 0.5), "RescaleIntercept": "1"})
    np.testing.assert_array_equal(
        read_one(READER, tmp_path).array, truth * np.float32([0.5, 1.5])[:, None, None, None] + 1
    )


def test_clock_times_leave_no_date(tmp_path, write, scan):
    write(2, lambda t, z: {"AcquisitionTime": f"12345{t}", "AcquisitionDate": "20240131"})
    series = scan(READER, tmp_path).series[0]
    shown = repr(READER.read(tmp_path, series).attributes)
    assert "12345" not in shown
    assert "2024" not in shown
