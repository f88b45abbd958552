import io
import pickle
import zipfile

import numpy as np
import pytest

from ndvol.errors import SourceError
from ndvol.formats.arrays import ArrayReader

READER = ArrayReader()


def npy(header, data=b"", version=b"\x01\x00"):
    text = header.encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + data


def descr(shape, dtype="<i2"):
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize("suffix", ["npy", "npz", "packed"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "tzyx"])
@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "<u4", "i8", "f4", ">f8"])
def test_voxels_keep_their_values_and_get_axes_by_number(tmp_path, read_one, suffix, axes, dtype):
    array = np.arange(120).reshape((2, 3, 4, 5)).astype(dtype)[(0,) * (4 - len(axes))]
    if suffix == "npy":
        np.save(tmp_path / "a.npy", array)
    else:
        (np.savez if suffix == "npz" else np.savez_compressed)(tmp_path / "a.npz", array)
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == {">f8": "f4"}.get(dtype, np.dtype(dtype).newbyteorder("="))
    assert (volume.grid.axes, volume.grid.frame, volume.grid.unit) == (axes, "LOCAL", "unknown")
    assert "spacing, position and orientation unknown" in volume.warnings[0]


def test_spacing_is_not_stated(tmp_path, scan):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4)))
    series = scan(READER, tmp_path).series[0]
    assert (series.spacing, series.key, series.name, series.modality) == (None, "a", "a", "")


def test_fortran_order_bool_and_float16(tmp_path, read_one):
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4) % 2 == 0)
    np.save(tmp_path / "a.npy", array)
    volume = read_one(READER, tmp_path)
    assert volume.array.dtype == "uint8"
    np.testing.assert_array_equal(volume.array, array)
    np.save(tmp_path / "a.npy", array.astype(np.float16))
    assert read_one(READER, tmp_path).array.dtype == "float32"


def test_version_two(tmp_path, read_one):
    array = np.arange(6, dtype="<i2").reshape(2, 3)
    (tmp_path / "a.npy").write_bytes(npy(descr((2, 3)), array.tobytes(), b"\x02\x00"))
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, np.load(tmp_path / "a.npy"))


def test_labels(tmp_path, read_one):
    np.save(tmp_path / "a.npy", np.array([[0, 1.0004], [300, 2]]))
    volume = read_one(READER, tmp_path, as_label=True)
    assert (volume.array.dtype, volume.array.ravel().tolist()) == ("uint16", [0, 1, 300, 2])
    np.save(tmp_path / "a.npy", np.array([[0, 0.5]]))
    with pytest.raises(SourceError, match="not integers"):
        read_one(READER, tmp_path, as_label=True)


class _Exploit:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_objects_are_never_unpickled(tmp_path, refusal, suffix):
    data = npy(descr((1, 1), "|O"), pickle.dumps(_Exploit()))
    if suffix == "npy":
        (tmp_path / "a.npy").write_bytes(data)
    else:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x.npy", data)
    code, message = refusal(READER, tmp_path)
    assert code == "voxel-type"
    assert "never unpickled" in message


def test_several_arrays_are_refused_by_name(tmp_path, refusal):
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 2)), mask=np.zeros((2, 2)))
    code, message = refusal(READER, tmp_path)
    assert code == "several-arrays"
    assert "got image, mask; expected exactly one" in message
    np.savez(tmp_path / "a.npz")
    assert refusal(READER, tmp_path)[0] == "no-array"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (descr((2**40, 1)), "truncated"),
        (descr((2**40, 2**40, 2**40)), "truncated"),
        (descr((2, 0)), "shape"),
        (descr((4,)), "axes"),
        (descr((1, 1, 1, 1, 1)), "axes"),
        (descr((1, 1), "<c8"), "voxel-type"),
        (descr((1, 1), "<M8[s]"), "voxel-type"),
        (descr((1, 1), "<f16"), "voxel-type"),
        (descr((-1, 1)), "shape"),
        (descr(("'a'", 1)), "unreadable"),
        ("__import__('os').abort()\n", "unreadable"),
        ("(" * 5000, "unreadable"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_headers_that_are_refused(tmp_path, refusal, suffix, header, code):
    data = npy(header, b"\0" * 64)
    if suffix == "npz":
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", data)
    else:
        (tmp_path / "a.npy").write_bytes(data)
    assert refusal(READER, tmp_path)[0] == code


def test_an_archive_that_declares_too_much_is_refused(tmp_path, refusal):
    data = npy(descr((2**15, 2**14)), b"\0" * 64)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", data)
    packed = bytearray((tmp_path / "a.npz").read_bytes())
    at = packed.index(b"PK\x01\x02")
    packed[at + 24 : at + 28] = (2**30 + 200).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(packed)
    assert refusal(READER, tmp_path)[0] == "truncated"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, refusal, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("x.npy", npy(descr((1, 1)), b"\0\0"))
    assert refusal(READER, tmp_path)[0] == "encoding"


def test_every_flipped_bit_of_an_archive_is_noticed(tmp_path, scan):
    noise = np.random.default_rng(0).integers(0, 99, (9, 20, 30), dtype=np.int16)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", noise)
        data = (tmp_path / "a.npz").read_bytes()
        end = data.index(b"PK\x01\x02")
        for at in np.random.default_rng(1).integers(300, end, 40):
            damaged = bytearray(data)
            damaged[at] ^= 8
            (tmp_path / "a.npz").write_bytes(damaged)
            found = scan(READER, tmp_path)
            assert bool(found.series) != bool(found.verdicts)
            for series in found.series:
                with pytest.raises(SourceError, match="cannot be read"):
                    READER.read(tmp_path, series)


def test_bytes_behind_the_values_are_told(tmp_path, read_one):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 2)))
    np.save(buffer, np.ones((2, 2)))
    (tmp_path / "a.npy").write_bytes(buffer.getvalue())
    volume = read_one(READER, tmp_path)
    assert volume.array.max() == 0
    assert "bytes after the values are ignored" in volume.warnings
