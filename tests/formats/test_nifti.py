import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from ndvol.errors import SourceError
from ndvol.formats.nifti import NiftiReader
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid

READER = NiftiReader()


def save(path, array_xyz, *, sform=None, qform=None, unit="mm", slope=None, inter=0.0, kind=nib.Nifti1Image):
    """Write with nibabel, form codes and scaling exactly as asked for."""
    image = kind(array_xyz, None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    if sform is not None:
        image.set_sform(sform, 1)
    if qform is not None:
        image.set_qform(qform, 1)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    if slope is not None:
        data = bytearray(path.read_bytes())
        data[112:120] = np.array([slope, inter], "<f4").tobytes()
        raw = np.asarray(array_xyz).astype(array_xyz.dtype.newbyteorder("<")).tobytes("F")
        path.write_bytes(bytes(data[:352]) + raw)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_voxels_and_world_agree_with_nibabel_and_simpleitk(tmp_path, voxels, oblique, read_one, suffix):
    file = write_nifti(tmp_path / f"scan{suffix}", voxels, oblique)
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, voxels)
    assert volume.grid.matches(oblique)
    theirs = nib.load(file)
    np.testing.assert_array_equal(volume.array, np.asarray(theirs.dataobj).T)
    np.testing.assert_allclose(volume.grid.nifti_affine, theirs.affine, atol=1e-4)
    itk = SimpleITK.ReadImage(str(file))
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(itk))
    np.testing.assert_allclose(
        volume.grid.world((3, 2, 1)), itk.TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0)), atol=1e-3
    )


def test_key_and_name_come_from_the_path(tmp_path, voxels, oblique, scan):
    write_nifti(tmp_path / "sub" / "scan.v1.nii.gz", voxels, oblique)
    series = scan(READER, tmp_path).series[0]
    assert (series.source, series.key, series.name) == ("sub/scan.v1.nii.gz", "sub/scan.v1", "scan.v1")


def test_sform_wins_and_a_different_qform_is_told(tmp_path, read_one):
    sform, qform = np.diag([1.0, 2, 3, 1]), np.diag([1.0, 2, 3, 1])
    qform[0, 3] = 5
    save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16), sform=sform, qform=qform)
    volume = read_one(READER, tmp_path)
    np.testing.assert_allclose(volume.grid.nifti_affine, sform)
    assert volume.warnings == ("sform and qform differ by up to 5; the sform is used",)


def test_qform_alone_counts(tmp_path, read_one):
    qform = np.diag([-1.0, 2, 3, 1])
    save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16), qform=qform)
    volume = read_one(READER, tmp_path)
    np.testing.assert_allclose(volume.grid.nifti_affine, qform, atol=1e-6)
    assert not volume.warnings


def test_without_forms_only_the_spacing_is_known(tmp_path, read_one):
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.int16), None)
    image.header["pixdim"][1:4] = 0.5, 0.75, 2
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, tmp_path / "a.nii")
    volume = read_one(READER, tmp_path)
    assert (volume.grid.frame, volume.grid.spacing) == ("LOCAL", (2.0, 0.75, 0.5))
    assert "neither sform nor qform" in volume.warnings[0]


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 1e-3), ("meter", 1e3), ("unknown", 1)])
def test_units_become_millimetres(tmp_path, read_one, unit, factor):
    save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16), sform=np.diag([1.0, 2, 3, 1]), unit=unit)
    np.testing.assert_allclose(read_one(READER, tmp_path).grid.spacing, np.array([3, 2, 1]) * factor)


def test_shear_is_kept(tmp_path, read_one):
    sheared = np.array([[1.0, 0, 0.5, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16), sform=sheared)
    np.testing.assert_allclose(read_one(READER, tmp_path).grid.nifti_affine, sheared)


@pytest.mark.parametrize(
    ("shape", "axes", "stored"),
    [
        ((4, 3), "zyx", (1, 3, 4)),
        ((4, 3, 1), "zyx", (1, 3, 4)),
        ((4, 3, 2, 1, 1), "zyx", (2, 3, 4)),
        ((4, 3, 2, 5), "tzyx", (5, 2, 3, 4)),
    ],
)
def test_number_of_axes(tmp_path, read_one, shape, axes, stored):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    save(tmp_path / "a.nii", array, sform=np.eye(4))
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.array.shape) == (axes, stored)
    np.testing.assert_array_equal(volume.array, array.T.reshape(stored))


RGB, RGBA = ([(c, "u1") for c in letters] for letters in ("RGB", "RGBA"))


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((2, 2, 2, 2, 3, 2), np.int16), "axes"),
        (np.zeros((2, 2, 2, 2, 3), RGB), "axes"),
        (np.zeros((2, 2, 2), np.complex64), "voxel-type"),
        (np.zeros((2, 2, 2), np.complex128), "voxel-type"),
    ],
)
def test_what_is_not_supported_is_refused(tmp_path, refusal, array, code):
    save(tmp_path / "a.nii", array, sform=np.eye(4))
    assert refusal(READER, tmp_path)[0] == code


@pytest.mark.parametrize(
    ("shape", "intent", "axes", "order"),
    [
        ((4, 3, 2, 1, 3), 1007, "czyx", "xyztc"),
        ((4, 3, 2, 1, 3), 1006, "czyx", "xyztc"),
        ((4, 3, 1, 1, 2), 1006, "czyx", "xyztc"),
        ((4, 3, 2, 1, 6), 1005, "czyx", "xyztc"),
        ((4, 3, 2, 1, 3), 0, "czyx", "xyztc"),
        ((4, 3, 2, 5, 3), 1007, "tczyx", "xyztc"),
        ((4, 3, 2, 5), 0, "tzyx", "xyzt"),
        ((4, 3, 2, 3), 1007, "czyx", "xyzc"),
        ((4, 3, 2, 6, 1), 1005, "czyx", "xyzct"),
        ((4, 3, 2, 5), 1002, "tzyx", "xyzt"),
    ],
)
def test_further_dimensions_by_intent(tmp_path, read_one, shape, intent, axes, order):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    image = nib.Nifti1Image(array, np.diag([1.0, 2, 3, 1]))
    image.header["intent_code"] = intent
    nib.save(image, tmp_path / "a.nii")
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.grid.spacing) == (axes, (3.0, 2.0, 1.0))
    gone = tuple(k for k, a in enumerate(order) if a not in axes)
    kept = "".join(a for a in order if a in axes)
    np.testing.assert_array_equal(volume.array, np.einsum(f"{kept}->{axes}", array.squeeze(gone)))
    assert volume.attributes.get("intent_code", 0) == intent
    unsaid = any("the intent does not say which" in w for w in volume.warnings)
    assert unsaid == (intent == 0 and "c" in axes)


def test_several_values_per_voxel_are_no_labels(tmp_path, read_one):
    save(tmp_path / "a.nii", np.zeros((4, 3, 2, 1, 3), np.int16), sform=np.eye(4))
    with pytest.raises(SourceError, match="several values per voxel"):
        read_one(READER, tmp_path, as_label=True)


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 3, 2, 5)])
@pytest.mark.parametrize("kind", [RGB, RGBA])
def test_colours_lie_on_c(tmp_path, read_one, shape, kind):
    array = np.random.default_rng(0).integers(0, 255, (*shape, len(kind)), dtype=np.uint8)
    array[..., 3:] = 255
    # Colours are never scaled, whatever the header says.
    save(tmp_path / "a.nii", np.ascontiguousarray(array).view(kind)[..., 0], sform=np.eye(4), slope=2.0, inter=9.0)
    volume = read_one(READER, tmp_path)
    names = "xyzt"[: len(shape)]
    assert volume.grid.axes == ("czyx" if len(shape) == 3 else "tczyx")
    np.testing.assert_array_equal(volume.array, np.einsum(f"{names}c->{volume.grid.axes}", array[..., :3]))
    assert (volume.array.dtype, "scl_slope" in volume.attributes) == ("uint8", False)


@pytest.mark.parametrize("alpha", [0, 254])
def test_transparent_colours_are_refused(tmp_path, read_one, alpha):
    array = np.full((2, 2, 2, 4), 255, np.uint8)
    array[1, 1, 1, 3] = alpha
    save(tmp_path / "a.nii", array.view(RGBA)[..., 0], sform=np.eye(4))
    with pytest.raises(SourceError, match=f"alpha from {alpha} to 255"):
        read_one(READER, tmp_path)


@pytest.mark.parametrize(("unit", "seconds"), [("sec", 2.5), ("msec", 0.0025), ("usec", 2.5e-6), ("unknown", None)])
def test_the_step_of_time_is_in_seconds(tmp_path, read_one, unit, seconds):
    image = nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.int16), np.eye(4))
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = 2.5
    nib.save(image, tmp_path / "a.nii")
    assert read_one(READER, tmp_path).attributes.get("t_spacing_s") == (
        None if seconds is None else pytest.approx(seconds, abs=1e-6)
    )


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan, np.inf])
def test_a_step_that_is_none_says_nothing(tmp_path, read_one, step):
    image = nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.int16), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[92:96] = np.array([step], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    assert "t_spacing_s" not in read_one(READER, tmp_path).attributes


def test_frequencies_are_no_time(tmp_path, read_one):
    image = nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.int16), np.eye(4))
    image.header.set_xyzt_units("mm", "ppm")
    nib.save(image, tmp_path / "a.nii")
    volume = read_one(READER, tmp_path)
    assert (volume.warnings, "t_spacing_s" in volume.attributes) == (("the axis t is no time: its unit is ppm",), False)


def test_a_label_map_read_as_an_image_is_told(tmp_path, read_one):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.int16), np.eye(4))
    image.header["intent_code"] = 1002
    nib.save(image, tmp_path / "a.nii")
    assert "calls it a label map" in read_one(READER, tmp_path).warnings[0]
    assert not read_one(READER, tmp_path, as_label=True).warnings


@pytest.mark.parametrize("intent", [1008, 1009, 3006])
def test_points_and_surfaces_are_refused(tmp_path, refusal, intent):
    image = nib.Nifti1Image(np.ones((5, 1, 1, 1, 3), np.float32), np.eye(4))
    image.header["intent_code"] = intent
    nib.save(image, tmp_path / "a.nii")
    assert refusal(READER, tmp_path)[0] == "no-volume"


@pytest.mark.parametrize(
    ("slope", "inter", "dtype", "expected"),
    [
        (np.nan, 0, "int16", [0, 1, 300]),
        (0.0, 7, "int16", [0, 1, 300]),
        (1.0, -1024, "int16", [-1024, -1023, -724]),
        (2.0, 0, "int16", [0, 2, 600]),
        (0.5, 1, "float32", [1, 1.5, 151]),
        (-1.0, 0, "int16", [0, -1, -300]),
    ],
)
def test_scaling(tmp_path, read_one, slope, inter, dtype, expected):
    file = save(
        tmp_path / "a.nii", np.array([0, 1, 300], np.int16).reshape(3, 1, 1), sform=np.eye(4), slope=slope, inter=inter
    )
    volume = read_one(READER, tmp_path)
    assert (volume.array.dtype, volume.array.ravel().tolist()) == (dtype, expected)
    np.testing.assert_array_equal(volume.array.T, nib.load(file).get_fdata())


@pytest.mark.parametrize(("value", "dtype"), [(0.5, "float32"), (0.1, "float64"), (1e300, "float64")])
def test_float64_narrows_only_without_loss(tmp_path, read_one, value, dtype):
    save(tmp_path / "a.nii", np.full((2, 2, 2), value), sform=np.eye(4))
    volume = read_one(READER, tmp_path)
    assert (volume.array.dtype, volume.array.flat[0]) == (dtype, value)


def test_big_endian_and_nifti2(tmp_path, scan):
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    big = nib.Nifti1Image(array, np.eye(4), nib.Nifti1Header(endianness=">"))
    (tmp_path / "big.nii").write_bytes(big.to_bytes())
    save(tmp_path / "two.nii", array.astype(np.int16), sform=np.eye(4), kind=nib.Nifti2Image)
    for series in scan(READER, tmp_path).series:
        volume = READER.read(tmp_path, series)
        assert volume.array.dtype.isnative
        np.testing.assert_array_equal(volume.array, array.T)


@pytest.mark.parametrize("packed", [(), ("img",), ("hdr", "img")])
@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("order", "<>")
def test_pairs_of_either_version_and_byte_order(tmp_path, scan, kind, order, packed):
    array = np.arange(24, dtype=f"{order}i2").reshape(2, 3, 4)
    image = kind(array, np.diag([1.0, 2, 3, 1]), kind.header_class(endianness=order))
    (tmp_path / "sub").mkdir()
    nib.save(image, tmp_path / "sub" / "pair.hdr")
    for suffix in packed:
        file = tmp_path / "sub" / f"pair.{suffix}"
        file.with_name(f"pair.{suffix}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    found = scan(READER, tmp_path)
    [series] = found.series
    # Both files, so that a change of either is noticed.
    assert found.claimed == set(series.files) == {p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/*")}
    assert len(series.files) == 2
    volume = READER.read(tmp_path, series)
    np.testing.assert_array_equal(volume.array, array.T)
    assert (volume.grid.spacing, series.name) == ((3.0, 2.0, 1.0), "pair")


def test_a_header_without_its_image_is_refused(tmp_path, refusal):
    nib.save(nib.Nifti1Pair(np.zeros((2, 3, 4), np.int16), np.eye(4)), tmp_path / "pair.hdr")
    (tmp_path / "pair.img").unlink()
    assert refusal(READER, tmp_path)[0] == "missing-file"


def test_display_limits_change_nothing(tmp_path, read_one):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header["cal_min"], image.header["cal_max"] = 5, 7
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read_one(READER, tmp_path).array.T.ravel(), np.arange(24))


def test_pair_is_one_series_and_other_hdr_files_are_left_alone(tmp_path, scan):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Pair(array, np.eye(4)), tmp_path / "pair.hdr")
    (tmp_path / "envi.hdr").write_text("ENVI\n" * 100)
    found = scan(READER, tmp_path)
    assert found.claimed == {"pair.hdr", "pair.img"}
    np.testing.assert_array_equal(READER.read(tmp_path, found.series[0]).array, array.T)


def test_labels_are_integers_of_the_smallest_type(tmp_path, read_one):
    save(tmp_path / "a.nii", np.array([0, 1, 2.0004], np.float32).reshape(3, 1, 1), sform=np.eye(4))
    volume = read_one(READER, tmp_path, as_label=True)
    assert (volume.array.dtype, volume.array.ravel().tolist()) == ("uint8", [0, 1, 2])


def test_negative_labels_are_refused(tmp_path, read_one):
    save(tmp_path / "a.nii", np.array([0, -1], np.int16).reshape(2, 1, 1), sform=np.eye(4))
    with pytest.raises(SourceError, match="from -1 to 0") as caught:
        read_one(READER, tmp_path, as_label=True)
    assert caught.value.code == "label-values"


@pytest.mark.parametrize(("at", "value"), [(42, -3), (42, 0), (40, 0), (40, 9)])
def test_impossible_shapes_are_refused(tmp_path, refusal, voxels, oblique, at, value):
    file = write_nifti(tmp_path / "a.nii", voxels, oblique)
    data = bytearray(file.read_bytes())
    data[at : at + 2] = int(value).to_bytes(2, "little", signed=True)
    file.write_bytes(data)
    assert refusal(READER, tmp_path)[0] in ("shape", "unreadable")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_declared_size_beyond_the_file_is_refused_in_the_scan(tmp_path, refusal, voxels, oblique, suffix):
    file = write_nifti(tmp_path / "a.nii", voxels, oblique)
    data = bytearray(file.read_bytes())
    data[42:48] = np.array([3000] * 3, "<i2").tobytes()
    file.unlink()
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    code, message = refusal(READER, tmp_path)
    assert code == "truncated"
    assert "54000000352 bytes" in message


@pytest.mark.parametrize("damage", ["cut", "checksum"])
def test_damaged_gzip_is_refused(tmp_path, read_one, damage):
    noise = np.random.default_rng(0).integers(0, 99, (9, 20, 30), dtype=np.int16)
    file = write_nifti(tmp_path / "a.nii.gz", noise, Grid.regular("zyx", noise.shape, spacing=(1, 1, 1)))
    data = bytearray(file.read_bytes())
    data[-6] ^= 1
    file.write_bytes(data[:-12] if damage == "cut" else data)
    with pytest.raises(SourceError) as caught:
        read_one(READER, tmp_path)
    assert caught.value.code == "truncated"


def test_writing_is_deterministic(tmp_path, voxels, oblique):
    one, two = (write_nifti(tmp_path / f"{k}.nii.gz", voxels, oblique) for k in "ab")
    assert one.read_bytes() == two.read_bytes()
