"""One picture file: what its header says, and its samples without any narrowing."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ndvol.errors import NdvolError, SourceError
from ndvol.formats.faults import reason

MAX_PIXELS = 2**28
"""Pixels of one picture: 16,384 squared. More is refused before anything is decoded."""
EXIF_ORIENTATION = 0x0112
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

Image.init()


@dataclass(frozen=True, slots=True)
class Picture:
    """What the header of a PNG, JPEG or BMP says.

    Attributes
    ----------
    path : relative to the import's root.
    shape : rows and columns, after the EXIF orientation is applied.
    colour : ``grey``, ``palette`` or ``rgb``.
    bits : per sample as the file has it; 1, 2, 4, 8 or 16.
    alpha : whether the file carries transparency.
    orientation : EXIF orientation, 1 when upright.
    """

    path: str
    shape: tuple[int, int]
    colour: str
    bits: int
    alpha: bool = False
    orientation: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.bits > 8 else np.uint8)

    @property
    def kind(self) -> tuple[object, ...]:
        """What all pictures of a stack must share."""
        return self.shape, self.colour, self.bits

    def describe(self) -> str:
        rows, columns = self.shape
        return f"{columns} x {rows} pixels, {self.colour}, {self.bits} bits"


def read_picture_header(root: Path, path: str) -> Picture:
    """The header of one picture; raises `SourceError` for what cannot be read without loss."""
    try:
        with _opened(root / path) as image:
            width, height = image.size
            bits, colour, alpha = _layout(root / path, image)
            orientation = int(image.getexif().get(EXIF_ORIENTATION, 1))
    except NdvolError:
        raise
    except Exception as error:  # Pillow raises whatever the bytes provoke
        raise _unreadable(root, path, error) from error
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise SourceError(f"{path} is too large", got=f"{width} x {height}", expected=f"{MAX_PIXELS}", code="too-large")
    if orientation not in range(1, 9):
        raise SourceError(f"{path} has an unknown EXIF orientation", got=orientation, expected="1 to 8", code="exif")
    if bits == 16 and alpha and colour == "grey":
        raise SourceError(f"{path} is 16-bit grey with alpha; not supported yet", code="alpha")
    shape = (width, height) if orientation >= 5 else (height, width)
    return Picture(path, shape, colour, bits, alpha, orientation)


def read_picture(root: Path, picture: Picture, *, indices: bool = False) -> NDArray[Any]:
    """The samples of one picture.

    Parameters
    ----------
    indices : keep the indices of a palette picture instead of its colours.

    Returns
    -------
    array : (y, x) or (y, x, 3); uint8 or uint16; 1-, 2- and 4-bit grey keeps its stored values 0 … 2**bits - 1.
    """
    try:
        _check_chunks(root / picture.path)
        return _samples(root, picture, indices)
    except NdvolError:
        raise
    except Exception as error:  # decoders raise whatever the bytes provoke
        raise _unreadable(root, picture.path, error) from error


def _samples(root: Path, picture: Picture, indices: bool) -> NDArray[Any]:
    if picture.bits == 16 and picture.colour == "rgb":
        # Pillow narrows 16-bit colours to 8 bits without a word.
        array = _by_itk(root, picture)
        return _upright(_opaque(array, picture), picture.orientation)
    with _opened(root / picture.path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if picture.colour == "palette" and indices:
            return np.array(upright)
        if picture.colour == "rgb" or picture.colour == "palette":
            array = np.array(upright.convert("RGBA" if picture.alpha else "RGB"))
            return _opaque(array, picture)
        array = _opaque(np.array(upright.convert("LA")), picture)[..., 0] if picture.alpha else np.array(upright)
    if picture.bits < 8 and array.dtype != bool:
        # Pillow spreads 2- and 4-bit samples over 0 … 255.
        array = array // (255 // (2**picture.bits - 1))
    return array.astype(picture.dtype)


def _by_itk(root: Path, picture: Picture) -> NDArray[Any]:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(root / picture.path))
    array = SimpleITK.GetArrayFromImage(reader.Execute())
    if array.dtype != picture.dtype or array.ndim != 3:
        raise ValueError(f"decoded to {array.dtype} {array.shape}")
    return np.asarray(array)


def _upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation (EXIF 2.3, tag 0x0112) to (y, x, c) samples."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    return np.flip(array, flips.get(orientation, ()))


def _opaque(array: NDArray[Any], picture: Picture) -> NDArray[Any]:
    """The samples without their alpha, which must say nothing."""
    if not picture.alpha:
        return array
    if (array[..., -1] != np.iinfo(array.dtype).max).any():
        raise SourceError(
            f"{picture.path} is partly transparent",
            hint="remove its alpha channel, and with it the question what lies behind",
            code="alpha",
        )
    return array[..., :-1]


def _layout(file: Path, image: Image.Image) -> tuple[int, str, bool]:
    """Bits per sample, colour and alpha as the file stores them, not as Pillow presents them."""
    transparent = "transparency" in image.info
    if image.format == "PNG":
        bits, kind = png_layout(file)
        colour = {0: "grey", 2: "rgb", 3: "palette", 4: "grey", 6: "rgb"}[kind]
        if transparent and bits == 16:
            raise SourceError(f"{file.name} is 16-bit with a transparent colour; not supported yet", code="alpha")
        return (8 if colour == "palette" else bits), colour, kind in (4, 6) or transparent
    modes = {"1": (1, "grey"), "L": (8, "grey"), "P": (8, "palette"), "RGB": (8, "rgb"), "RGBA": (8, "rgb")}
    if image.mode not in modes:
        raise SourceError(
            f"{file.name} has colours of kind {image.mode}; not supported", hint="convert it to RGB", code="colour"
        )
    return *modes[image.mode], image.mode == "RGBA" or transparent


def is_animated_png(file: Path) -> bool:
    """Whether a PNG announces several frames before its first pixels (acTL; PNG, third edition, 11.3.6.1)."""
    try:
        with file.open("rb") as stream:
            if stream.read(8) != _PNG_SIGNATURE:
                return False
            while len(head := stream.read(8)) == 8 and head[4:] != b"IDAT":
                size = int.from_bytes(head[:4])
                if head[4:] == b"acTL":
                    return int.from_bytes(stream.read(4)) > 1
                stream.seek(size + 4, 1)
    except (OSError, OverflowError):
        pass
    return False


def png_layout(file: Path) -> tuple[int, int]:
    """Bit depth and colour type from IHDR (PNG 11.2.2)."""
    with file.open("rb") as stream:
        head = stream.read(33)
    if head[:8] != _PNG_SIGNATURE or head[12:16] != b"IHDR":
        raise ValueError("no PNG header")
    bits, kind = struct.unpack("BB", head[24:26])
    return bits, kind


def _check_chunks(file: Path) -> None:
    """Prove the checksums of a PNG (PNG 5.3); Pillow passes over those of the samples, and returns wrong ones."""
    with file.open("rb") as stream:
        if stream.read(8) != _PNG_SIGNATURE:
            return
        name = b""
        while name != b"IEND":
            size, name = struct.unpack(">I4s", stream.read(8))
            found = zlib.crc32(name)
            while size and (part := stream.read(min(size, 2**20))):
                found, size = zlib.crc32(part, found), size - len(part)
            if size or stream.read(4) != struct.pack(">I", found):
                raise ValueError(f"the checksum of its chunk {name.decode('latin-1')} is wrong")


def _opened(file: Path) -> Image.Image:
    with warnings.catch_warnings():
        # MAX_PIXELS is the limit here; Pillow's own refuses at 1.8e8 and warns at half of that.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file, formats=("PNG", "JPEG", "BMP"))


def _unreadable(root: Path, path: str, error: Exception) -> SourceError:
    return SourceError(
        f"{path} cannot be read as a picture",
        got=reason(error, root),
        hint="copy the file again, or leave it out",
        code="unreadable",
    )
