import contextlib
import gzip
import shutil
import warnings
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from nibabel.externals.netcdf import netcdf_file

from ndvol.errors import NdvolError, SourceError
from ndvol.formats.neuro import NeuroReader
from ndvol.geometry.grid import LPS_FROM_RAS

READER = NeuroReader()
VENDOR = Path(nib.__file__).parent / "tests" / "data"
"""nibabel's own files of scanners, where its package brings them."""
STEPS, STARTS = (2.5, -0.75, 0.5), (-7.0, 40.5, -100.25)


def save_mgh(path, array_xyz, affine):
    nib.save(nib.MGHImage(array_xyz, affine), path)


def save_afni(path, array, affine_ras, *, factors=None, packed=False, byteorder="<"):
    """Write (t, z, y, x) voxels as ``.HEAD`` and ``.BRIK``."""
    t, z, y, x = array.shape
    lps = LPS_FROM_RAS @ affine_ras
    code = {"u1": 0, "i2": 1, "f4": 3, "c8": 5}[array.dtype.str[1:]]
    attributes = [
        ("integer", "DATASET_RANK", [3, t]),
        ("integer", "DATASET_DIMENSIONS", [x, y, z]),
        ("integer", "BRICK_TYPES", [code] * t),
        ("float", "DELTA", [1.0, 1.0, 1.0]),
        ("float", "IJK_TO_DICOM_REAL", [float(v) for v in lps[:3].ravel()]),
    ]
    attributes += [("float", "BRICK_FLOAT_FACS", factors)] if factors else []
    blocks = [
        f"type = {k}-attribute\nname = {n}\ncount = {len(v)}\n {' '.join(map(str, v))}\n" for k, n, v in attributes
    ]
    order = "LSB_FIRST" if byteorder == "<" else "MSB_FIRST"
    blocks.append(f"type = string-attribute\nname = BYTEORDER_STRING\ncount = 10\n'{order}~\n")
    path.write_text("\n" + "\n".join(blocks))
    data = array.astype(array.dtype.newbyteorder(byteorder)).tobytes()
    brik = path.with_suffix(".BRIK.gz" if packed else ".BRIK")
    brik.write_bytes(gzip.compress(data, mtime=0) if packed else data)


def save_minc2(path, array, *, ends=None, dims=("zspace", "yspace", "xspace"), **attributes):
    """`ends` are image-min and image-max, one number each or one per plane."""
    with h5py.File(path, "w", track_order=False) as h5:
        root = h5.create_group("minc-2.0")
        places = root.create_group("dimensions")
        for name, step, start in zip(("zspace", "yspace", "xspace"), STEPS, STARTS, strict=True):
            places.create_dataset(name, data=0).attrs.update({"step": step, "start": start, "spacing": b"regular__"})
        if "time" in dims:
            places.create_dataset("time", data=0).attrs.update({"step": 1.0, "spacing": b"regular__"})
        group = root.create_group("image/0")
        image = group.create_dataset("image", data=array, compression="gzip")
        image.attrs["dimorder"] = np.bytes_(",".join(dims))
        image.attrs.update(attributes)
        for name, value in zip(("image-min", "image-max"), ends or (0.0, 1.0), strict=True):
            end = group.create_dataset(name, data=value)
            end.attrs["dimorder"] = np.bytes_(dims[0] if np.ndim(value) else "")


def save_minc1(path, array):
    file = netcdf_file(path, "w")
    for name, length, step, start in zip(("zspace", "yspace", "xspace"), array.shape, STEPS, STARTS, strict=True):
        file.createDimension(name, length)
        variable = file.createVariable(name, "i", ())
        variable.data[...] = 0
        variable.step, variable.start, variable.spacing = step, start, b"regular__"
    image = file.createVariable("image", array.dtype, ("zspace", "yspace", "xspace"))
    image[:] = array
    image.signtype, image.valid_range = b"signed__", [-32768.0, 32767.0]
    for name, value in (("image-min", -32768.0), ("image-max", 32767.0)):
        file.createVariable(name, "d", ()).data[...] = value
    file.close()


@pytest.fixture
def vendor(tmp_path):
    def copy(*names):
        if not (VENDOR / names[0]).is_file():
            pytest.skip("nibabel came without its test files")
        for name in names:
            shutil.copy(VENDOR / name, tmp_path / name)
        return tmp_path

    return copy


def witness(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"strict_sort": True} if file.suffix == ".PAR" else {}
        image = nib.load(file, **options)
        found = image.affine, image.get_fdata()
        del image  # closes what nibabel left open, while that is not an error
    return found


@pytest.mark.parametrize("suffix", ["mgh", "mgz", "mgh.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
def test_mgh_agrees_with_nibabel(tmp_path, voxels, oblique, read_one, suffix, dtype):
    values = np.stack([voxels, voxels + 1]).astype(dtype)
    save_mgh(tmp_path / "a.mgz", values.T, oblique.nifti_affine)
    if suffix != "mgz":
        data = (tmp_path / "a.mgz").read_bytes()
        (tmp_path / "a.mgz").unlink()
        (tmp_path / f"a.{suffix}").write_bytes(data if suffix == "mgh.gz" else gzip.decompress(data))
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert (volume.array.dtype, volume.grid.axes, volume.warnings) == (dtype, "tzyx", ())
    np.testing.assert_allclose(volume.grid.affine, oblique.affine, atol=1e-4)


def test_mgh_without_good_ras_is_local(tmp_path, voxels, oblique, read_one):
    save_mgh(tmp_path / "a.mgh", voxels.T, oblique.nifti_affine)
    data = bytearray((tmp_path / "a.mgh").read_bytes())
    data[28:30] = b"\0\0"
    (tmp_path / "a.mgh").write_bytes(data)
    volume = read_one(READER, tmp_path)
    assert (volume.grid.frame, volume.grid.unit) == ("LOCAL", "unknown")
    assert "goodRASFlag" in volume.warnings[0]


@pytest.mark.parametrize("suffix", ["mgh", "mgz"])
def test_mgh_that_declares_too_much_is_refused(tmp_path, voxels, oblique, refusal, suffix):
    save_mgh(tmp_path / "a.mgh", voxels.T, oblique.nifti_affine)
    data = bytearray((tmp_path / "a.mgh").read_bytes())
    (tmp_path / "a.mgh").unlink()
    data[4:16] = np.array([2**20] * 3, ">i4").tobytes()
    (tmp_path / f"a.{suffix}").write_bytes(gzip.compress(data) if suffix == "mgz" else data)
    assert refusal(READER, tmp_path)[0] == "truncated"


def test_every_flipped_bit_of_an_mgz_is_noticed(tmp_path, oblique, scan):
    noise = np.random.default_rng(0).integers(0, 99, (30, 20, 9), dtype=np.int16)
    save_mgh(tmp_path / "a.mgz", noise, oblique.nifti_affine)
    data = (tmp_path / "a.mgz").read_bytes()
    for at in np.random.default_rng(1).integers(2000, len(data), 40):
        damaged = bytearray(data)
        damaged[at] ^= 4
        (tmp_path / "a.mgz").write_bytes(damaged)
        found = scan(READER, tmp_path)
        assert bool(found.series) != bool(found.verdicts)
        for series in found.series:
            with pytest.raises(SourceError, match="cannot be read"):
                READER.read(tmp_path, series)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_afni_agrees_with_nibabel(tmp_path, voxels, oblique, scan, packed, byteorder):
    values = np.stack([voxels, voxels * 2])
    file = tmp_path / "a+orig.HEAD"
    save_afni(file, values, oblique.nifti_affine, packed=packed, byteorder=byteorder)
    found = scan(READER, tmp_path)
    assert (found.series[0].key, len(found.series[0].files)) == ("a", 2)
    assert found.claimed == set(found.series[0].files)
    volume = READER.read(tmp_path, found.series[0])
    assert volume.grid.axes == "tzyx"
    affine, theirs = witness(file)
    np.testing.assert_array_equal(volume.array, values)
    np.testing.assert_array_equal(volume.array.T, theirs)
    np.testing.assert_allclose(volume.grid.nifti_affine, affine)
    np.testing.assert_allclose(volume.grid.affine, oblique.affine)


@pytest.mark.parametrize(
    ("factors", "dtype"),
    [([2.0, 2.0], "int32"), ([0.0, 0.0], "int16"), ([0.5, 0.5], "float32"), ([1.0, 3.0], "float32")],
)
def test_afni_factors(tmp_path, voxels, oblique, read_one, factors, dtype):
    values = np.stack([voxels, voxels * 2])
    save_afni(tmp_path / "a+tlrc.HEAD", values, oblique.nifti_affine, factors=factors)
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array.T, witness(tmp_path / "a+tlrc.HEAD")[1])
    assert volume.array.dtype == dtype


def test_afni_refusals(tmp_path, voxels, oblique, refusal):
    file = tmp_path / "a+orig.HEAD"
    save_afni(file, voxels[None], oblique.nifti_affine)
    (tmp_path / "a+orig.BRIK").write_bytes(voxels.tobytes()[:-1])
    assert refusal(READER, tmp_path)[0] == "truncated"
    (tmp_path / "a+orig.BRIK").unlink()
    assert refusal(READER, tmp_path)[0] == "missing-file"
    save_afni(file, voxels[None].astype(np.complex64), oblique.nifti_affine)
    assert refusal(READER, tmp_path)[0] == "voxel-type"
    save_afni(file, voxels[None], oblique.nifti_affine)
    file.write_text(file.read_text().replace("IJK_TO_DICOM_REAL", "IJK_TO_NOTHING"))
    assert refusal(READER, tmp_path)[0] == "unreadable"


@pytest.mark.parametrize("stem", ["phantom_EPI_asc_CLEAR_2_1", "phantom_varscale"])
def test_par_rec_agrees_with_nibabel(vendor, scan, stem):
    root = vendor(f"{stem}.PAR", f"{stem}.REC")
    found = scan(READER, root)
    assert found.claimed == {f"{stem}.PAR", f"{stem}.REC"}
    assert found.series[0].modality == "MR"
    volume = READER.read(root, found.series[0])
    affine, theirs = witness(root / f"{stem}.PAR")
    np.testing.assert_allclose(volume.array.T, theirs, rtol=1e-6)
    np.testing.assert_array_equal(volume.grid.nifti_affine, affine)
    data = (root / f"{stem}.REC").read_bytes()
    (root / f"{stem}.REC").write_bytes(data[:-1])
    assert scan(READER, root).verdicts[0].code == "truncated"


def test_par_rec_with_volumes_that_are_no_time(vendor, read_one):
    root = vendor("fieldmap.PAR")
    with (root / "fieldmap.PAR").open(encoding="latin-1") as stream:
        header = nib.parrec.PARRECHeader.from_fileobj(stream, strict_sort=True)
    shape = header.get_data_shape()
    rec = np.random.default_rng(0).integers(0, 4000, (len(header.image_defs), *shape[1::-1])).astype("<u2")
    (root / "fieldmap.REC").write_bytes(rec.tobytes())
    volume = read_one(READER, root)
    np.testing.assert_allclose(volume.array.T, witness(root / "fieldmap.PAR")[1], rtol=1e-6)
    assert volume.warnings == ("the axis t runs over image_type_mr, scanning sequence",)


def test_par_rec_refusals(vendor, refusal):
    root = vendor("phantom_truncated.PAR", "phantom_truncated.REC")
    code, message = refusal(READER, root)
    assert code == "unreadable"
    assert "dynamic scan" in message
    (root / "phantom_truncated.REC").unlink()
    assert refusal(READER, root)[0] == "missing-file"


def test_a_parity_archive_is_not_par_rec(tmp_path, scan):
    (tmp_path / "a.par").write_bytes(b"PAR\0\0\0\0" + bytes(500))
    (tmp_path / "b.HEAD").write_bytes(b"ref: refs/heads/main\n")
    assert not scan(READER, tmp_path).claimed


@pytest.mark.parametrize("name", ["small.mnc", "minc1_4d.mnc", "minc2_4d.mnc", "minc2-4d-d.mnc", "minc2_1_scale.mnc"])
def test_minc_agrees_with_nibabel(vendor, read_one, name):
    root = vendor(name)
    volume = read_one(READER, root)
    affine, theirs = witness(root / name)
    np.testing.assert_array_equal(volume.array, theirs.astype(np.float32))
    np.testing.assert_allclose(volume.grid.affine, LPS_FROM_RAS @ affine)


@pytest.mark.parametrize(
    ("ends", "dtype"),
    [
        ((-32768.0, 32767.0), "int16"),
        ((-65536.0, 65534.0), "int32"),
        ((0.0, 1.0), "float32"),
        ((np.zeros(6), np.arange(1.0, 7)), "float32"),
    ],
)
def test_minc2_real_values(tmp_path, voxels, read_one, ends, dtype):
    save_minc2(tmp_path / "a.mnc", voxels, ends=ends)
    volume = read_one(READER, tmp_path)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, witness(tmp_path / "a.mnc")[1].astype(dtype))
    np.testing.assert_allclose(volume.grid.spacing, np.abs(STEPS))
    np.testing.assert_allclose(volume.grid.origin, (100.25, -40.5, -7.0))


def test_minc1_and_other_orders_of_axes(tmp_path, voxels, read_one):
    save_minc1(tmp_path / "a.mnc", voxels)
    volume = read_one(READER, tmp_path)
    assert volume.array.dtype == "int16"
    np.testing.assert_array_equal(volume.array, voxels)
    np.testing.assert_allclose(volume.grid.origin, (100.25, -40.5, -7.0))
    point = volume.grid.world((3, 2, 1))
    series = np.stack([voxels.transpose(2, 0, 1)] * 2, axis=-1)
    save_minc2(tmp_path / "a.mnc", series, ends=(-32768.0, 32767.0), dims=("xspace", "zspace", "yspace", "time"))
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.grid.shape) == ("tzyx", (2, 4, 6, 5))
    np.testing.assert_array_equal(volume.array[1].transpose(1, 2, 0), voxels)
    np.testing.assert_allclose(volume.grid.world((1, 3, 2)), point)


def test_hdf5_is_claimed_only_when_it_is_minc(tmp_path, voxels, scan):
    with h5py.File(tmp_path / "a.mnc", "w") as h5:
        h5["data"] = voxels
    save_minc2(tmp_path / "b.h5", voxels)
    (tmp_path / "c.mnc").write_bytes(b"menace")
    assert not scan(READER, tmp_path).claimed


@pytest.mark.parametrize("way", ["external link", "external storage", "virtual"])
def test_minc2_cannot_reach_other_files(tmp_path, voxels, refusal, way):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "v.raw").write_bytes(voxels.tobytes())
    with h5py.File(secret / "v.h5", "w") as h5:
        h5["image"] = voxels
        h5["image"].attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
    save_minc2(tmp_path / "a.mnc", voxels)
    with h5py.File(tmp_path / "a.mnc", "r+") as h5:
        group = h5["minc-2.0/image/0"]
        del group["image"]
        if way == "external link":
            group["image"] = h5py.ExternalLink(str(secret / "v.h5"), "/image")
        elif way == "external storage":
            files = [(str(secret / "v.raw"), 0, voxels.nbytes)]
            image = group.create_dataset("image", voxels.shape, "i2", external=files)
            image.attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
        else:
            layout = h5py.VirtualLayout(voxels.shape, "i2")
            layout[:] = h5py.VirtualSource(str(secret / "v.h5"), "image", voxels.shape)
            group.create_virtual_dataset("image", layout).attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
    assert refusal(READER, tmp_path)[0] == "path-escape"


def test_minc_refusals(tmp_path, voxels, refusal):
    save_minc2(tmp_path / "a.mnc", voxels, dims=("zspace", "yspace", "sideways"))
    assert refusal(READER, tmp_path)[0] == "unreadable"
    # Another name each time: what was refused may stay open until it is collected.
    save_minc2(tmp_path / "b.mnc", voxels)
    (tmp_path / "a.mnc").unlink()
    with h5py.File(tmp_path / "b.mnc", "r+") as h5:
        del h5["minc-2.0/image/0/image"]
        image = h5["minc-2.0/image/0"].create_dataset("image", (2**20, 2**20, 2**20), "i2", chunks=(1, 64, 64))
        image.attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
    assert refusal(READER, tmp_path)[0] == "truncated"
    data = (tmp_path / "b.mnc").read_bytes()
    (tmp_path / "b.mnc").unlink()
    (tmp_path / "c.mnc").write_bytes(data[: len(data) // 2])
    assert refusal(READER, tmp_path)[0] == "unreadable"


def test_minc_without_steps_is_refused(tmp_path, voxels, refusal):
    save_minc2(tmp_path / "a.mnc", voxels)
    with h5py.File(tmp_path / "a.mnc", "r+") as h5:
        del h5["minc-2.0/dimensions/yspace"].attrs["step"]
    assert refusal(READER, tmp_path)[0] == "geometry"


def test_damaged_headers_end_in_errors_or_volumes(tmp_path, voxels, oblique):
    save_afni(tmp_path / "a+orig.HEAD", voxels[None], oblique.nifti_affine, factors=[2.0])
    save_minc1(tmp_path / "b.mnc", voxels)
    save_minc2(tmp_path / "c.mnc", voxels)
    rng = np.random.default_rng(0)
    for name in ("a+orig.HEAD", "b.mnc", "c.mnc"):
        data = (tmp_path / name).read_bytes()
        for _ in range(40):
            damaged = bytearray(data)
            for at in rng.integers(0, len(data), 3):
                damaged[at] = rng.integers(256)
            (tmp_path / name).write_bytes(damaged)
            for series in READER.scan(tmp_path, [name]).series:
                with contextlib.suppress(NdvolError):
                    assert READER.read(tmp_path, series).array.shape == series.shape
        (tmp_path / name).write_bytes(data)
