"""Animated GIF, PNG and WebP through Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ndvol.errors import NdvolError, SourceError
from ndvol.formats.faults import reason
from ndvol.formats.film import Film
from ndvol.formats.picture_files import EXIF_ORIENTATION, is_animated_png, png_layout

_PALETTE = 3
_GREY = (0, 4)
"""Colour types of PNG (11.2.1)."""

Image.init()


def is_animation(root: Path, path: str) -> bool:
    """GIF and WebP by suffix, PNG where it is animated."""
    name = path.rpartition("/")[2].lower()
    if name.startswith("."):
        return False
    return name.endswith((".gif", ".webp", ".apng")) or (name.endswith(".png") and is_animated_png(root / path))


def read_animation_header(root: Path, path: str) -> Film:
    """What the header says."""
    with _opened(root, path) as image:
        bits, kind = png_layout(root / path) if image.format == "PNG" else (8, 2)
        if bits != 8 and kind != _PALETTE:
            raise SourceError(
                f"{path} has {bits} bits per sample",
                expected="8 bits",
                hint="save its frames as PNG files",
                code="voxel-type",
            )
        if (turn := int(image.getexif().get(EXIF_ORIENTATION, 1))) != 1:
            hint = "save it upright"
            raise SourceError(f"{path} is stored turned", got=f"Orientation {turn}", hint=hint, code="orientation")
        _check_end(root, path, image)
        return Film(path, _frames(image)[1], image.height, image.width, kind not in _GREY)


def _frames(image: Image.Image) -> tuple[int, int]:
    """The first frame and the number of frames; a picture in front that is not part of the animation is left out."""
    total, first = getattr(image, "n_frames", 1), int(bool(image.info.get("default_image")))
    return first, total - first


def read_animation(root: Path, film: Film) -> tuple[NDArray[np.uint8], list[float]]:
    """The frames, shaped like `Film.shape`, and their times in ms.

    Raises
    ------
    SourceError : code ``alpha`` when a frame is partly transparent: what lies behind is not known.
    """
    out = np.empty(film.shape, np.uint8)
    times, now = [], 0.0
    with _opened(root, film.path) as image:
        first, _ = _frames(image)
        for k in range(film.count):
            image.seek(first + k)
            image.load()
            frame = np.array(image.convert("RGBA" if film.colours else "LA"))
            if (frame[..., -1] != 255).any():
                raise SourceError(
                    f"frame {k} of {film.path} is partly transparent",
                    hint="remove its alpha channel, and with it the question what lies behind",
                    code="alpha",
                )
            out[k] = np.moveaxis(frame[..., :3], -1, 0) if film.colours else frame[..., 0]
            times.append(now)
            now += float(image.info.get("duration", 0))
    return out, times


def _check_end(root: Path, path: str, image: Image.Image) -> None:
    """Raise where the file ends before its frames do: Pillow counts those of a GIF as far as it gets."""
    file = root / path
    if image.format == "GIF":
        whole = _gif_frames(file.read_bytes()) == _frames(image)[1]
    else:
        with file.open("rb") as stream:
            head = stream.read(8)
            stream.seek(-12, 2)
            end = stream.read()
        riff = int.from_bytes(head[4:], "little") + 8
        whole = end[4:8] == b"IEND" if image.format == "PNG" else riff <= file.stat().st_size
    if not whole:
        raise SourceError(f"{path} is truncated", hint="copy the file again", code="truncated")


def _gif_frames(data: bytes) -> int:
    """How many images a GIF holds, up to its trailer (GIF89a, appendix B); -1 where it ends without one."""

    def table(flags: int) -> int:
        return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0

    count, at = 0, 13 + table(data[10])
    while at < len(data):
        block = data[at]
        if block == 0x3B:
            return count
        if block == 0x2C and at + 10 < len(data):
            count += 1
            at += 11 + table(data[at + 9])
        elif block == 0x21:
            at += 2
        else:
            return -1
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return -1


@contextmanager
def _opened(root: Path, path: str) -> Iterator[Image.Image]:
    """The open file; whatever the bytes provoke in Pillow is one error of ours."""
    try:
        with warnings.catch_warnings():
            # Film has a limit of its own; other warnings are of damage that Pillow passes over.
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(root / path, formats=("GIF", "PNG", "WEBP")) as image:
                yield image
    except NdvolError:
        raise
    except Exception as error:
        raise SourceError(
            f"{path} cannot be read as an animation",
            got=reason(error, root),
            hint="copy the file again, or leave it out",
            code="unreadable",
        ) from error
