"""Files from strangers: what they unpack to is bounded, and they reach no other file."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path
from textwrap import dedent

import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ndvol.errors import NdvolError
from ndvol.formats import readers
from ndvol.formats.writing import write_dicom_series, write_nifti
from ndvol.geometry import Grid
from ndvol.importing.planning import list_files

SHAPE = (3, 6, 5)
GRID = Grid.regular("zyx", SHAPE, spacing=(2.5, 0.75, 0.5), origin=(-60, 12, 8))
VOXELS = np.arange(90, dtype=np.int16).reshape(SHAPE)
BOMB = 400
"""MiB that a bomb unpacks to; its file has a thousandth."""


def verdicts(root: Path) -> list[str]:
    """Codes of all that is refused below `root` and of all that cannot be read; ``imported`` for the rest."""
    root, left = list_files(root)
    found = []
    for reader in readers().values():
        scan = reader.scan(root, left)
        found += [v.code for v in scan.verdicts]
        for series in scan.series:
            try:
                reader.read(root, series)
                found.append("imported")
            except NdvolError as error:
                found.append(error.code)
        left = [f for f in left if f not in scan.claimed]
    return found


@cache
def zeros(mib: int, wbits: int = 15) -> bytes:
    """A stream that unpacks to so many MiB of zeros, packed quickly."""
    packer = zlib.compressobj(1, wbits=wbits)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(mib)) + packer.flush()


def deflated_dicom(folder: Path) -> None:
    [file] = write_dicom_series(folder, VOXELS[:1], Grid.regular("zyx", (1, 6, 5), spacing=(2.5, 0.75, 0.5)))
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(file)
    meta = 144 + pydicom.dcmread(file).file_meta.FileMetaInformationGroupLength
    plain = zlib.decompress(file.read_bytes()[meta:], -15)
    packer = zlib.compressobj(9, wbits=-15)
    # A private element in front of the pixels, of undefined use and enormous length.
    at = plain.index(b"\xe0\x7f\x10\x00")
    element = b"\x09\x70\x10\x10OB\0\0" + struct.pack("<I", BOMB * 2**20)
    parts = [packer.compress(plain[:at] + element)]
    parts += [packer.compress(bytes(2**20)) for _ in range(BOMB)]
    file.write_bytes(file.read_bytes()[:meta] + b"".join([*parts, packer.compress(plain[at:]), packer.flush()]))


def gzipped_dicom(folder: Path) -> None:
    [file] = write_dicom_series(folder, VOXELS[:1], Grid.regular("zyx", (1, 6, 5), spacing=(2.5, 0.75, 0.5)))
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(file.read_bytes()), *(packer.compress(bytes(2**20)) for _ in range(BOMB)), packer.flush()]
    (folder / "a.dcm.gz").write_bytes(b"".join(parts))
    file.unlink()


def nifti_extension(folder: Path) -> None:
    plain = bytearray(gzip.decompress(write_nifti(folder / "a.nii.gz", VOXELS, GRID).read_bytes()))
    struct.pack_into("<f", plain, 108, BOMB * 2.0**20)
    plain[348] = 1
    struct.pack_into("<ii", plain, 352, BOMB * 2**20 - 16, 6)
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(bytes(plain[:360])), *(packer.compress(bytes(2**20)) for _ in range(BOMB))]
    (folder / "a.nii.gz").write_bytes(b"".join([*parts, packer.flush()]))


def nifti_behind(folder: Path) -> None:
    plain = gzip.decompress(write_nifti(folder / "a.nii.gz", VOXELS, GRID).read_bytes())
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(plain), *(packer.compress(bytes(2**20)) for _ in range(BOMB)), packer.flush()]
    (folder / "a.nii.gz").write_bytes(b"".join(parts))


def tiff_strip(folder: Path) -> None:
    """A picture of 30 pixels whose one strip unpacks to 400 MiB."""
    packed = zeros(BOMB)
    tifffile.imwrite(folder / "a.tif", VOXELS[0], compression="zlib", metadata=None)
    data = bytearray((folder / "a.tif").read_bytes())
    with tifffile.TiffFile(folder / "a.tif") as file:
        tags = file.pages[0].tags
        for name, value in (("StripOffsets", len(data)), ("StripByteCounts", len(packed))):
            tag = tags[name]
            struct.pack_into("<I" if tag.dtype == 4 else "<H", data, tag.valueoffset, 0)
            # Written as LONG in place, whatever it was.
            struct.pack_into("<HI", data, tag.offset + 2, 4, 1)
            struct.pack_into("<I", data, tag.offset + 8, value)
    (folder / "a.tif").write_bytes(data + packed)


def png_text(folder: Path) -> None:
    """Text of 400 MiB, as PNG may pack it beside the samples."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 6, 8, 0, 0, 0, 0))
    samples = chunk(b"IDAT", zlib.compress(b"\0\1\2\3\4\5" * 6))
    text = chunk(b"zTXt", b"Comment\0\0" + zeros(BOMB)) + chunk(b"iCCP", b"profile\0\0" + zeros(BOMB))
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + text + samples + chunk(b"IEND", b""))


def png_samples(folder: Path) -> None:
    """More samples than the header declares."""
    head = struct.pack(">IIBBBBB", 5, 6, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zeros(BOMB)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts]
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def nrrd_behind(folder: Path) -> None:
    head = "NRRD0005\ntype: short\ndimension: 3\nsizes: 5 6 3\nendian: little\nencoding: gzip\n\n"
    (folder / "a.nrrd").write_bytes(head.encode() + zeros(BOMB, 31))


def nrrd_skip(folder: Path) -> None:
    head = "NRRD0005\ntype: short\ndimension: 3\nsizes: 5 6 3\nendian: little\nencoding: gzip\n"
    head += f"byte skip: {BOMB * 2**20 - 180}\n\n"
    (folder / "a.nrrd").write_bytes(head.encode() + zeros(BOMB, 31))


def mha_behind(folder: Path) -> None:
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\nDimSize = 5 6 3\n"
    (folder / "a.mha").write_bytes((head + "ElementType = MET_SHORT\nElementDataFile = LOCAL\n").encode() + zeros(BOMB))


def npz_member(folder: Path) -> None:
    import zipfile

    with (
        zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w") as member,
    ):
        np.lib.format.write_array(member, VOXELS)
        for _ in range(BOMB):
            member.write(bytes(2**20))


BOMBS = {
    deflated_dicom: "deflated",
    gzipped_dicom: "gzip",
    nifti_extension: "header",
    nifti_behind: "excess",
    tiff_strip: "too-large",
    png_text: "unreadable",
    png_samples: "imported",
    nrrd_behind: "excess",
    nrrd_skip: "imported",
    mha_behind: "excess",
    npz_member: "imported",
}
"""What becomes of each; where reading on is harmless, the file is imported."""

JUDGE = """
import sys; sys.path.insert(0, sys.argv[1])
import test_hostile
from pathlib import Path
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))
test_hostile.readers()
for folder in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    print(",".join(test_hostile.verdicts(Path(folder))), peak() - before)
"""


def test_what_a_file_unpacks_to_is_bounded(tmp_path):
    """In one process that never needs the memory of a bomb."""
    for write in BOMBS:
        (tmp_path / write.__name__).mkdir()
        write(tmp_path / write.__name__)
    folders = [str(tmp_path / write.__name__) for write in BOMBS]
    command = [sys.executable, "-c", JUDGE, str(Path(__file__).parent), *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    print(rows)
    assert dict(zip(BOMBS, (code for code, _ in rows), strict=True)) == BOMBS
    assert max(int(mib) for _, mib in rows) < 0.75 * BOMB, rows


SECRET = np.full((3, 6, 5), 77, np.int16)


def ome(folder: Path, names: list[str], planes: int = 1) -> str:
    """OME metadata of an image whose planes lie in the named files."""
    data = "".join(
        f'<TiffData FirstZ="{k}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{k:08d}-0000-0000-0000-000000000000'
        "</UUID></TiffData>"
        for k, name in enumerate(names)
    )
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="int16" SizeX="5" SizeY="6" '
        f'SizeZ="{max(planes, len(names))}" SizeC="1" SizeT="1">{data}</Pixels></Image></OME>'
    )


def ome_elsewhere(folder: Path, secret: Path) -> None:
    tifffile.imwrite(secret, SECRET[0], metadata=None)
    names = ["a.ome.tif", os.path.relpath(secret, folder)]
    tifffile.imwrite(folder / "a.ome.tif", VOXELS[0], metadata=None, description=ome(folder, names))


def ome_absolute(folder: Path, secret: Path) -> None:
    tifffile.imwrite(secret, SECRET[0], metadata=None)
    tifffile.imwrite(
        folder / "a.ome.tif", VOXELS[0], metadata=None, description=ome(folder, ["a.ome.tif", str(secret)])
    )


def ome_missing(folder: Path, _: Path) -> None:
    """tifffile fills in zeros for the plane that is not there."""
    tifffile.imwrite(folder / "a.ome.tif", VOXELS[0], metadata=None, description=ome(folder, ["a.ome.tif", "gone.tif"]))


def nifti_pair(folder: Path, secret: Path) -> None:
    nib.save(nib.Nifti1Pair(SECRET.T, np.eye(4)), folder / "a.hdr")
    (folder / "a.img").rename(secret)
    (folder / "a.img").symlink_to(secret)


def afni(folder: Path, secret: Path) -> None:
    text = """
        type = integer-attribute\nname = DATASET_RANK\ncount = 2\n 3 1\n
        type = integer-attribute\nname = DATASET_DIMENSIONS\ncount = 3\n 5 6 3\n
        type = integer-attribute\nname = BRICK_TYPES\ncount = 1\n 1\n
        type = float-attribute\nname = DELTA\ncount = 3\n 1 1 1\n
        type = float-attribute\nname = IJK_TO_DICOM_REAL\ncount = 12\n 1 0 0 0 0 1 0 0 0 0 1 0\n
        type = string-attribute\nname = BYTEORDER_STRING\ncount = 10\n'LSB_FIRST~\n"""
    (folder / "a+orig.HEAD").write_text(dedent(text))
    secret.write_bytes(SECRET.tobytes())
    (folder / "a+orig.BRIK").symlink_to(secret)


def nrrd_elsewhere(folder: Path, secret: Path) -> None:
    head = "NRRD0005\ntype: short\ndimension: 3\nsizes: 5 6 3\nendian: little\nencoding: raw\n"
    secret.write_bytes(SECRET.tobytes())
    for name, data in (("up", os.path.relpath(secret, folder)), ("absolute", secret), ("link", "link.raw")):
        (folder / f"{name}.nhdr").write_text(f"{head}data file: {data}\n")
    (folder / "link.raw").symlink_to(secret)


def meta_elsewhere(folder: Path, secret: Path) -> None:
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 5 6 3\nElementType = MET_SHORT\n"
    secret.write_bytes(SECRET.tobytes())
    (folder / "list.mhd").write_text(f"{head}ElementDataFile = LIST\n" + f"{secret}\n" * 3)
    (folder / "up.mhd").write_text(f"{head}ElementDataFile = {os.path.relpath(secret, folder)}\n")


ESCAPES = {
    ome_elsewhere: ["several-files"],
    ome_absolute: ["several-files"],
    ome_missing: ["several-files"],
    nifti_pair: ["path-escape"],
    afni: ["path-escape"],
    nrrd_elsewhere: ["path-escape"] * 3,
    meta_elsewhere: ["path-escape"] * 2,
}


@pytest.mark.parametrize("write", ESCAPES)
def test_no_file_outside_the_root_is_read(tmp_path, write):
    folder = tmp_path / "raw"
    folder.mkdir()
    write(folder, tmp_path / "secret")
    assert verdicts(folder) == ESCAPES[write]


def test_an_image_in_one_ome_file_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", VOXELS, metadata={"axes": "ZYX"}, ome=True)
    assert verdicts(tmp_path) == ["imported"]


def test_planes_that_ome_declares_and_the_file_lacks_are_not_made_up(tmp_path):
    data = ome(tmp_path, [], planes=3).replace("</Pixels>", '<TiffData IFD="0" FirstZ="0" PlaneCount="1"/></Pixels>')
    tifffile.imwrite(tmp_path / "a.ome.tif", VOXELS[0], metadata=None, description=data)
    assert verdicts(tmp_path) == ["truncated"]


def test_links_within_the_root_are_followed(tmp_path):
    """As git-annex and DataLad keep all content."""
    store = tmp_path / ".git" / "annex"
    store.mkdir(parents=True)
    write_nifti(tmp_path / "single.nii.gz", VOXELS, GRID)
    nib.save(nib.Nifti1Pair(VOXELS.T, np.eye(4)), tmp_path / "pair.hdr")
    head = "NRRD0005\ntype: short\ndimension: 3\nsizes: 5 6 3\nendian: little\nencoding: raw\ndata file: a.raw\n"
    (tmp_path / "a.nhdr").write_text(head)
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes())
    for file in [path for path in tmp_path.iterdir() if path.is_file()]:
        file.rename(store / f"MD5-{file.name}")
        file.symlink_to(Path(".git", "annex", f"MD5-{file.name}"))
    assert verdicts(tmp_path) == ["imported"] * 3
