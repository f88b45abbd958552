"""Frames of one video file through OpenCV, whose wheels hold FFmpeg under the LGPL.

PyAV would notice more damage (21 of 60 flipped bits in an H.264 file, OpenCV 1), but its wheels hold x264 and x265,
which are under the GPL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import NdvolError, SourceError
from ndvol.formats.faults import reason
from ndvol.formats.film import Film

_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".ogv")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MAGICS = {b"\x1aE\xdf\xa3": "matroska", b"0&\xb2u": "asf", b"\0\0\x01\xba": "mpeg", b"\0\0\x01\xb3": "mpeg"}
_MAGICS |= {b"OggS": "ogg"}
_COUNTED = ("mov", "avi")
"""Containers that state the number of their frames; for others OpenCV guesses it from the duration."""
_GREY = (b"Y800", b"GREY")
_COLOURS = (
    *(b"I420", b"YV12", b"NV12", b"NV21", b"Y42B", b"422P", b"444P", b"411P", b"Y41B", b"410P", b"YUV9", b"YVU9"),
    *(b"YUY2", b"UYVY", b"RGB\x18", b"BGR\x18", b"BGR\0", b"RGB\0", b"\0BGR", b"\0RGB", b"PAL\x08", b"G3\0\x08"),
)
"""Tags of FFmpeg's pixel formats (libavcodec/raw.c) with 8 bits per sample and no alpha channel."""


def is_video(path: str) -> bool:
    """By suffix."""
    name = path.rpartition("/")[2].lower()
    return name.endswith(_SUFFIXES) and not name.startswith(".")


def read_video_header(root: Path, path: str) -> Film:
    """What the header says; the frames of containers that do not count them are counted, which decodes them."""
    kind = _container(root, path)
    with _opened(root, path) as (cv2, capture):
        if (number := int(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT))) <= 0:
            raise SourceError(f"no frame of {path} can be decoded", hint="copy the file again", code="unreadable")
        tag = number.to_bytes(8, "little")[:4]
        if tag not in _GREY and tag not in _COLOURS:
            raise SourceError(
                f"{path} has pixels of a kind that cannot be read without loss",
                got=tag.strip(b"\0").decode("latin-1"),
                expected="8 bits per sample and no alpha channel",
                hint="save its frames as TIFF or PNG files",
                code="voxel-type",
            )
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if kind not in _COUNTED:
            guess, count = count, 0
            while capture.grab():
                count += 1
            if count < 0.98 * guess - 1:
                raise _truncated(path, count, guess)
        turned = int(capture.get(cv2.CAP_PROP_ORIENTATION_META))
        # Of the frames after the turn.
        rows, columns = (int(capture.get(n)) for n in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    notes = (f"the frames were turned by {turned} degrees as the file says",) if turned else ()
    return Film(path, count, rows, columns, tag not in _GREY, notes)


def read_video(root: Path, film: Film) -> tuple[NDArray[np.uint8], list[float]]:
    """The frames, shaped like `Film.shape`, red first, and their times in ms."""
    out = np.empty(film.shape, np.uint8)
    times: list[float] = []
    with _opened(root, film.path) as (cv2, capture):
        while (answer := capture.read())[0]:
            frame = answer[1]
            if len(times) == film.count or frame.shape != (film.rows, film.columns, 3) or frame.dtype != np.uint8:
                got = f"frame {len(times)} of {film.count} with {frame.shape} {frame.dtype}"
                raise SourceError(f"the frames of {film.path} are not what its header says", got=got, code="frames")
            out[len(times)] = np.moveaxis(frame[..., ::-1], -1, 0) if film.colours else frame[..., 0]
            times.append(float(capture.get(cv2.CAP_PROP_POS_MSEC)))
    if len(times) < film.count:
        raise _truncated(film.path, len(times), film.count)
    return out, times


def _container(root: Path, path: str) -> str:
    """The kind of container by its first bytes.

    FFmpeg goes by content whatever the suffix: play lists, which it also knows, name other files and addresses.
    """
    try:
        with (root / path).open("rb") as stream:
            head = stream.read(12)
    except OSError as error:
        raise SourceError(f"{path} cannot be read", got=reason(error, root), code="unreadable") from error
    riff = head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX")
    kind = "mov" if head[4:8] in _BOXES else "avi" if riff else _MAGICS.get(head[:4])
    if kind is None:
        raise SourceError(f"{path} is no video that its suffix promises", hint="copy the file again", code="unreadable")
    return kind


@contextmanager
def _opened(root: Path, path: str) -> Iterator[tuple[Any, Any]]:
    """OpenCV and the open video; whatever the bytes provoke is one error of ours."""
    try:
        import cv2
    except ImportError:
        raise SourceError(
            f"{path} is a video, which needs OpenCV", hint='pip install "ndvol[video]"', code="needs-extra"
        ) from None
    capture = None
    try:
        capture = cv2.VideoCapture(str(root / path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise SourceError(f"{path} cannot be read as a video", hint="copy the file again", code="unreadable")
        yield cv2, capture
    except NdvolError:
        raise
    except Exception as error:
        raise SourceError(f"{path} cannot be read as a video", got=reason(error, root), code="unreadable") from error
    finally:
        if capture is not None:
            capture.release()


def _truncated(path: str, found: int, stated: int) -> SourceError:
    return SourceError(
        f"{path} ends before its last frame, or hides frames by an edit list",
        got=f"{found} frames",
        expected=stated,
        hint="copy the file again, or encode it anew",
        code="truncated",
    )
