"""Formats that carry a checksum: whatever bit flips, the file is refused or its voxels are right."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from ndvol.errors import NdvolError
from ndvol.formats import readers
from ndvol.formats.writing import write_dicom_series, write_nifti
from ndvol.geometry import Grid

SHAPE = (3, 6, 5)
GRID = Grid.regular("zyx", SHAPE, spacing=(2.5, 0.75, 0.5), origin=(-60, 12, 8))
NOISE = np.random.default_rng(0).integers(0, 3000, SHAPE, np.int16)

STEPS = np.cumsum(NOISE > 2000, 1)[..., None].repeat(30, -1).reshape(3, 30, 30) * 300
"""Packs well, so that a flipped bit leaves a stream that still unpacks to as much."""


def nifti(folder):
    return write_nifti(folder / "a.nii.gz", NOISE, GRID)


def nifti_with_more(folder):
    """Bytes behind the voxels, beyond what is read at once."""
    plain = gzip.decompress(nifti(folder).read_bytes())
    return rewritten(folder / "a.nii.gz", gzip.compress(plain + bytes(5 * 2**18)))


def mgz(folder):
    nib.save(nib.MGHImage(NOISE.T, GRID.nifti_affine), folder / "a.mgz")
    return folder / "a.mgz"


def mgz_with_tags(folder):
    """FreeSurfer writes tags behind the voxels."""
    plain = gzip.decompress(mgz(folder).read_bytes())
    return rewritten(folder / "a.mgz", gzip.compress(plain + bytes(5 * 2**18)))


def nrrd(folder):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE), folder / "a.nrrd", useCompression=True)
    return folder / "a.nrrd"


def mha(folder):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE), folder / "a.mha", useCompression=True)
    return folder / "a.mha"


def npz(folder):
    np.savez_compressed(folder / "a.npz", NOISE)
    return folder / "a.npz"


def dicom_gz(folder):
    [file] = write_dicom_series(folder, NOISE[:1], Grid.regular("zyx", (1, 6, 5), spacing=(2.5, 0.75, 0.5)))
    data = gzip.compress(file.read_bytes())
    file.unlink()
    return rewritten(folder / "a.dcm.gz", data)


def png(folder):
    Image.fromarray(STEPS[0].astype(np.uint8)).save(folder / "a.png")
    return folder / "a.png"


def png_deep(folder):
    Image.fromarray(STEPS[0].astype(np.uint16)).save(folder / "a.png")
    return folder / "a.png"


def png_colour(folder):
    Image.fromarray(np.moveaxis(NOISE, 0, -1).astype(np.uint8)).save(folder / "a.png")
    return folder / "a.png"


def tiff(folder):
    tifffile.imwrite(folder / "a.tif", STEPS[0].astype(np.uint16), compression="zlib")
    return folder / "a.tif"


def rewritten(path, data):
    path.write_bytes(data)
    return path


def imported(path):
    """Voxels and grid of the one file, or the error's code."""
    root, files = path.parent, [path.name]
    try:
        for reader in readers().values():
            found = reader.scan(root, files)
            if found.verdicts:
                return found.verdicts[0].code
            if found.series:
                data = reader.read(root, found.series[0])
                return data.array.tolist(), data.grid.affine.tolist(), data.grid.axes
    except NdvolError as error:
        return error.code
    return "unknown-format"


def compressed_part(data: bytes, path: Path) -> range:
    """The positions that the checksum covers: all, or those of the compressed voxels."""
    if path.suffix == ".tif":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            return range(page.dataoffsets[0], page.dataoffsets[0] + page.databytecounts[0])
    if path.suffix in (".nrrd", ".mha"):
        start = data.index(b"\n\n") + 2 if path.suffix == ".nrrd" else data.index(b"= LOCAL\n") + 8
        assert gzip.decompress(data[start:]) if path.suffix == ".nrrd" else zlib.decompress(data[start:])
        return range(start, len(data))
    return range(len(data))


WAYS = (nifti, nifti_with_more, mgz, mgz_with_tags, nrrd, mha, npz, dicom_gz, png, png_deep, png_colour, tiff)


@pytest.mark.parametrize("number", [50, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("write", WAYS)
def test_no_flipped_bit_changes_voxels_or_grid_silently(tmp_path, write, number):
    path = write(tmp_path)
    data = path.read_bytes()
    good = imported(path)
    assert isinstance(good, tuple)
    covered = compressed_part(data, path)
    rng = np.random.default_rng(1)
    refused = 0
    places = rng.permutation(covered)[:number]
    for at in places:
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        found = imported(path)
        assert isinstance(found, str) or found == good, f"byte {at} of {len(data)}: silently wrong"
        refused += isinstance(found, str)
    assert refused > 0.6 * len(places)


@pytest.mark.parametrize("write", WAYS)
def test_no_cut_changes_voxels_silently(tmp_path, write):
    path = write(tmp_path)
    data, good = path.read_bytes(), imported(path)
    assert isinstance(good, tuple)
    for size in range(0, len(data), len(data) // 40):
        path.write_bytes(data[:size])
        found = imported(path)
        assert isinstance(found, str) or found == good, f"the first {size} bytes of {len(data)}: silently wrong"


@pytest.mark.parametrize("write", [nifti_with_more, mgz_with_tags])
def test_what_follows_the_voxels_is_read_up_to_a_cap(tmp_path, write, monkeypatch):
    path = write(tmp_path)
    assert isinstance(imported(path), tuple)
    monkeypatch.setattr("ndvol.formats.bulk.MAX_EXCESS", 2**20)
    assert imported(path) == "excess"
