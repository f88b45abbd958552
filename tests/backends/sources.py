"""Sources of every format from arrays whose every value is known, and windows that leave them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
import tifffile

from ndvol.formats.writing import write_dicom_series, write_pictures
from ndvol.geometry import Grid, Window

SHAPE = (9, 70, 50)


def _voxels(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(len(dtype) + len(shape))
    if dtype[-2:] in ("f4", "f8", "f2"):
        return rng.normal(size=shape).astype(dtype)
    if dtype == "b1":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, -2000), min(info.max, 3000), shape).astype(dtype)


def _nifti(path: Path, dtype: str, slope: float = 1.0, inter: float = 0.0, shape: tuple[int, ...] = SHAPE) -> None:
    affine = np.array([[-0.5, 0, 0, 3], [0, 0.75, 0.1, 4], [0, 0, 2, 5], [0, 0, 0, 1]])
    kind = nibabel.Nifti1Pair if path.suffix == ".hdr" else nibabel.Nifti1Image
    image = kind(_voxels(dtype, shape).T, affine)
    image.header.set_slope_inter(slope, inter)
    image.to_filename(path)
    # nibabel scales the voxels back by the slope; only the header's word shall change here.
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([slope, inter], "<f4").tobytes()
    path.write_bytes(data)
    stored = np.ascontiguousarray(_voxels(dtype, shape)).tobytes()
    if path.suffix == ".hdr":
        path.with_suffix(".img").write_bytes(stored)
    else:
        path.write_bytes(data[:352] + stored)


def _itk(path: Path, dtype: str, *, packed: bool = False, channels: int = 0) -> None:
    array = _voxels(dtype, (*SHAPE, channels) if channels else SHAPE)
    image = SimpleITK.GetImageFromArray(array, isVector=bool(channels))
    image.SetSpacing((0.5, 0.75, 2.0))
    SimpleITK.WriteImage(image, path, packed)


def _tiff(path: Path, dtype: str, shape: tuple[int, ...] = SHAPE, **options: Any) -> None:
    tifffile.imwrite(path, _voxels(dtype, shape), **{"photometric": "minisblack", **options})


def _pyramid(path: Path) -> None:
    full = _voxels("u2", (300, 200))
    options: dict[str, Any] = {"tile": (64, 64), "compression": "zlib", "photometric": "minisblack", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(full, **options)
        file.write(full[::2, ::2], subfiletype=1, **options)


RGB: dict[str, Any] = {"photometric": "rgb", "tile": (32, 48)}

IN_PLACE = {
    "int16.nii": lambda p: _nifti(p, "<i2"),
    "bytes.nii": lambda p: _nifti(p, "<u1"),
    "time.nii": lambda p: _nifti(p, "<i2", shape=(3, 5, 12, 11)),
    "integral-slope.nii": lambda p: _nifti(p, "<u2", 1.0, -1024.0),
    "wide-slope.nii": lambda p: _nifti(p, "<i2", 1000.0, 1.0),
    "fractional-slope.nii": lambda p: _nifti(p, "<i2", 0.3, 7.0),
    "float-slope.nii": lambda p: _nifti(p, "<f4", 0.3, 7.0),
    "float64.nii": lambda p: _nifti(p, "<f8"),
    "pair.hdr": lambda p: _nifti(p, "<i2"),
    "c.npy": lambda p: np.save(p, _voxels("i2")),
    "fortran.npy": lambda p: np.save(p, np.asfortranarray(_voxels("i4"))),
    "big.npy": lambda p: np.save(p, _voxels("i2").astype(">i2")),
    "bool.npy": lambda p: np.save(p, _voxels("b1")),
    "half.npy": lambda p: np.save(p, _voxels("f2")),
    "exact.npy": lambda p: np.save(p, _voxels("f4").astype("f8")),
    "double.npy": lambda p: np.save(p, _voxels("f8")),
    "plane.npy": lambda p: np.save(p, _voxels("u1", (40, 30))),
    "time.npy": lambda p: np.save(p, _voxels("u2", (3, 4, 12, 11))),
    "raw.mha": lambda p: _itk(p, "i2"),
    "detached.mhd": lambda p: _itk(p, "u2"),
    "double.mha": lambda p: _itk(p, "f8"),
    "channels.mha": lambda p: _itk(p, "u1", channels=3),
    "raw.nrrd": lambda p: _itk(p, "i4"),
    "tiles.tif": lambda p: _tiff(p, "u2", (300, 200), tile=(64, 48), compression="zlib", predictor=True),
    "raw-tiles.tif": lambda p: _tiff(p, "i2", (300, 200), tile=(64, 48)),
    "float-tiles.tif": lambda p: _tiff(p, "f4", (300, 200), tile=(64, 48), compression="zlib"),
    "big-endian-tiles.tif": lambda p: _tiff(p, "u2", (300, 200), tile=(64, 48), compression="zlib", byteorder=">"),
    "stack.tif": lambda p: _tiff(p, "u2", tile=(32, 32), compression="zlib"),
    "time.ome.tif": lambda p: _tiff(p, "u2", (2, 3, 70, 50), tile=(32, 32), metadata={"axes": "TZYX"}),
    "czyx.ome.tif": lambda p: _tiff(p, "u2", (3, 2, 70, 50), tile=(32, 32), metadata={"axes": "ZCYX"}),
    "strips.tif": lambda p: _tiff(p, "u2", (300, 200), rowsperstrip=37, compression="zlib"),
    "one-strip.tif": lambda p: _tiff(p, "u2", (300, 200)),
    "imagej.tif": lambda p: _tiff(p, "u2", imagej=True, metadata={"axes": "ZYX"}),
    "rgb.tif": lambda p: _tiff(p, "u1", (100, 90, 3), compression="zlib", **RGB),
    "planar.tif": lambda p: _tiff(p, "u1", (3, 100, 90), compression="zlib", planarconfig="separate", **RGB),
    "raw-rgb.tif": lambda p: _tiff(p, "u1", (100, 90, 3), photometric="rgb"),
    "pyramid.tif": _pyramid,
}  # fmt: skip
"""Name of the file -> who writes it. All of these are read without decoding the whole."""


def _packed(path: Path) -> None:
    _nifti(path.with_suffix(""), "<i2")
    path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
    path.with_suffix("").unlink()


DECODED = {
    "packed.nii.gz": _packed,
    "packed.mha": lambda p: _itk(p, "i2", packed=True),
    "double-slope.nii": lambda p: _nifti(p, "<f8", 0.3, 7.0),
    "packed.npz": lambda p: np.savez_compressed(p, a=_voxels("i2")),
    "alpha.tif": lambda p: _opaque(p),
    "bilevel.tif": lambda p: _tiff(p, "b1", (60, 50)),
    "picture.png": lambda p: write_pictures(p.parent / "p", _voxels("u1", (1, 60, 50)))[0].rename(p),
    "dicom": lambda p: write_dicom_series(p, _voxels("i2"), Grid.regular("zyx", SHAPE, spacing=(2, 1, 1))),
    "planes": lambda p: write_pictures(p, _voxels("u1")),
}  # fmt: skip


def _opaque(path: Path) -> None:
    array = _voxels("u1", (60, 50, 4))
    array[..., 3] = 255
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unassalpha"], tile=(32, 32))


SOURCES = IN_PLACE | DECODED


def windows_of(shape: tuple[int, ...], count: int = 25) -> list[Window]:
    """Random windows around a volume, many of which leave it; one of them whole, one outside, one empty."""
    rng = np.random.default_rng(len(shape))
    found = [
        Window.full(shape),
        Window(tuple(n + 2 for n in shape), (3,) * len(shape)),
        Window((0,) * len(shape), (0,) * len(shape)),
    ]
    for _ in range(count):
        start = tuple(int(rng.integers(-n // 2, n)) for n in shape)
        found.append(Window(start, tuple(int(rng.integers(1, n + 3)) for n in shape)))
    return found
