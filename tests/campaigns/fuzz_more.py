"""Good files of further kinds for `fuzz.py`: DICOM as JPEG and in gzip, NRRD, MetaImage, FreeSurfer, MINC, numpy."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path
from typing import Any

import gdcm
import h5py
import nibabel as nib
import numpy as np
from scipy.io import netcdf_file

from ndvol.geometry import Grid

STEPS, STARTS = (2.5, 0.75, 0.5), (-60.0, 12.0, 8.0)
TEXT_NUMBERS = (
    "0",
    "-1",
    "1",
    "3",
    "65536",
    "2147483647",
    "99999999999",
    "1e308",
    "nan",
    "1e-300",
    "",
    "x",
    "raw",
    "../a",
)


def more_dicom(plain: Path, folder: Path) -> list[tuple[str, bytes]]:
    """One file as JPEG of three processes, by GDCM, and in gzip."""
    found = [("gzip", gzip.compress(plain.read_bytes(), mtime=0))]
    syntaxes = {
        "jpeg-lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        "jpeg-lossless-14": gdcm.TransferSyntax.JPEGLosslessProcess14,
        "jpeg-extended": gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    }
    for name, syntax in syntaxes.items():
        reader = gdcm.ImageReader()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change(), name
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(folder / name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        found.append((name, (folder / name).read_bytes()))
    return found


def nrrd(array: np.ndarray) -> list[tuple[str, bytes]]:
    found = []
    sizes = " ".join(map(str, array.shape[::-1]))
    for encoding, data in _encodings(array):
        fields = ["NRRD0005", "type: short", f"dimension: {array.ndim}", "space: left-posterior-superior"]
        fields += [f"sizes: {sizes}", "space directions: (0.5,0,0) (0,0.75,0) (0,0,2.5)", "space origin: (8,12,-60)"]
        fields += ["kinds: domain domain domain", "endian: little", f"encoding: {encoding}"]
        found.append((f"{encoding}.nrrd", "\n".join([*fields, "", ""]).encode() + data))
    return found


def mha(array: np.ndarray) -> list[tuple[str, bytes]]:
    found = []
    sizes = " ".join(map(str, array.shape[::-1]))
    packed = zlib.compress(array.tobytes())
    for name, data in (("raw", array.tobytes()), ("zlib", packed)):
        fields = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
        fields += [f"CompressedData = {name == 'zlib'}", "TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 8 12 -60"]
        fields += ["ElementSpacing = 0.5 0.75 2.5", f"DimSize = {sizes}", "ElementType = MET_SHORT"]
        found.append((f"{name}.mha", "\n".join([*fields, "ElementDataFile = LOCAL", ""]).encode() + data))
    return found


def mgh(array: np.ndarray) -> list[tuple[str, bytes]]:
    grid = Grid.regular("zyx", array.shape, spacing=STEPS, origin=STARTS)
    plain = nib.MGHImage(array.T, grid.nifti_affine).to_bytes()
    return [
        ("a.mgh", plain),
        ("a.mgz", gzip.compress(plain, mtime=0)),
        ("tags.mgz", gzip.compress(plain + b"tags" * 99)),
    ]


def minc(array: np.ndarray, folder: Path) -> list[tuple[str, bytes]]:
    """HDF5 as h5py writes it, packed and not, and NetCDF."""
    dims = ("zspace", "yspace", "xspace")
    for name, options in (("plain", {}), ("packed", {"compression": "gzip"}), ("sums", {"fletcher32": True})):
        with h5py.File(folder / f"{name}.mnc", "w") as h5:
            places, group = h5.create_group("minc-2.0/dimensions"), h5.create_group("minc-2.0/image/0")
            for dim, step, start in zip(dims, STEPS, STARTS, strict=True):
                facts = {"step": step, "start": start, "spacing": b"regular__"}
                places.create_dataset(dim, data=0).attrs.update(facts)
            image = group.create_dataset("image", data=array, **options)
            image.attrs["dimorder"] = np.bytes_(",".join(dims))
            for end, value in (("image-min", -32768.0), ("image-max", 32767.0)):
                group.create_dataset(end, data=value).attrs["dimorder"] = np.bytes_("")
    file = netcdf_file(folder / "classic.mnc", "w")
    for dim, length, step, start in zip(dims, array.shape, STEPS, STARTS, strict=True):
        file.createDimension(dim, length)
        variable = file.createVariable(dim, "i", ())
        variable.data[...] = 0
        variable.step, variable.start, variable.spacing = step, start, b"regular__"
    image = file.createVariable("image", array.dtype, dims)
    image[:] = array
    image.signtype, image.valid_range = b"signed__", [-32768.0, 32767.0]
    for end, value in (("image-min", -32768.0), ("image-max", 32767.0)):
        file.createVariable(end, "d", ()).data[...] = value
    file.close()
    return [(f"{n}.mnc", (folder / f"{n}.mnc").read_bytes()) for n in ("plain", "packed", "sums", "classic")]


def arrays(array: np.ndarray) -> list[tuple[str, bytes]]:
    found = []
    saves: dict[str, Any] = {"npy": np.save, "npz": np.savez, "packed.npz": np.savez_compressed}
    for name, save in saves.items():
        stream = io.BytesIO()
        save(stream, array)
        found.append((f"a.{name}", stream.getvalue()))
    return found


def text_number(data: bytes, rng: np.random.Generator) -> bytes:
    """One number in a header of text becomes one that it should not be."""
    head = data[:600]
    places = list(re.finditer(rb"(?<=[ (,:=])-?\d+(\.\d+)?", head))
    if not places:
        return data
    place = places[rng.integers(len(places))]
    return head[: place.start()] + str(rng.choice(TEXT_NUMBERS)).encode() + head[place.end() :] + data[600:]


def _encodings(array: np.ndarray) -> list[tuple[str, bytes]]:
    text = " ".join(map(str, array.ravel().tolist())).encode()
    data = array.tobytes()
    return [("raw", data), ("gzip", gzip.compress(data, mtime=0)), ("ascii", text), ("hex", data.hex().encode())]
