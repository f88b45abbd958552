"""One TIFF file: its axes, type and spacing from ImageJ or OME metadata, and its samples."""

from __future__ import annotations

import logging
import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path
from threading import get_ident
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from ndvol.errors import NdvolError, SourceError
from ndvol.formats.faults import reason

MAX_RATIO = 1100
"""Voxels a byte of file may unpack to; deflate, the tightest of TIFF's usual codecs, packs at most 1032."""
FREE_INFLATED = 2**26
"""Bytes that a strip or tile may unpack to beyond its pixels."""
_LZMA = 34925
_INFLATERS: dict[int, Any] = {8: zlib.decompressobj, 32946: zlib.decompressobj, _LZMA: lzma.LZMADecompressor}
"""By TIFF's number of the compression."""
_AXES = {"T": "t", "C": "c", "S": "c", "Z": "z", "I": "z", "Q": "z", "Y": "y", "X": "x"}
"""tifffile's axes; pages without a name (I, Q) are planes along z."""
_UM_PER_UNIT = {
    "nm": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}

_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "min": 60.0, "h": 3600.0}


class _Complaints(logging.Handler):
    """Raises what tifffile only logs as an error, such as a cut or circular chain of pages.

    Without it a truncated file would be read as a shorter volume, and some damaged ones for ever.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.thread = get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            raise ValueError(record.getMessage())


@contextmanager
def opened_tiff(root: Path, path: str) -> Iterator[tifffile.TiffFile]:
    """The open file, in a block where tifffile's complaints are errors."""
    logger, complaints = logging.getLogger("tifffile"), _Complaints()
    logger.addHandler(complaints)
    try:
        # Metadata may name further files anywhere; none of them is opened.
        with tifffile.TiffFile(root / path, _multifile=False) as file:
            len(file.pages)  # walks the whole chain
            if file.is_ndtiff or (file.is_ome and file.series[0].kind != "ome") or file.series[0].is_multifile:
                raise SourceError(
                    f"{path} is one of several files that form an image, or its metadata are damaged",
                    hint="save the image as one file (bfconvert)",
                    code="several-files",
                )
            if any(page is None for page in file.series[0].pages):
                raise SourceError(f"{path} declares planes that it does not hold", code="truncated")
            yield file
    finally:
        logger.removeHandler(complaints)


@dataclass(frozen=True, slots=True)
class Tiff:
    """What the header of a TIFF says.

    Attributes
    ----------
    axes, shape : in the file's own order, in our letters.
    dtype : native; uint8 for bilevel files.
    photometric : TIFF's name: ``MINISBLACK``, ``MINISWHITE``, ``RGB`` or ``PALETTE``.
    alpha : whether the last channel is alpha.
    colour_dtype : of the colours of a palette; `dtype` for others.
    spacing_um : by axis, as far as the file states it.
    t_spacing_s : seconds from one index of t to the next; 0 when not stated.
    """

    path: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    photometric: str
    alpha: bool
    colour_dtype: np.dtype[Any]
    spacing_um: Mapping[str, float]
    t_spacing_s: float = 0.0

    @property
    def kind(self) -> tuple[object, ...]:
        """What all files of a stack must share."""
        return self.axes, self.shape, self.dtype, self.photometric, self.alpha

    @property
    def is_plane(self) -> bool:
        """A single picture, that may be one of a stack."""
        return set(self.axes) <= set("cyx")

    def describe(self) -> str:
        return f"axes {self.axes} {self.shape}, {self.photometric}, {self.dtype}"


def read_tiff_header(root: Path, path: str) -> Tiff:
    """The header of one TIFF; raises `SourceError` for what cannot be read without doubt."""
    try:
        with opened_tiff(root, path) as file:
            header = _header(path, file, (root / path).stat().st_size)
    except NdvolError:
        raise
    except Exception as error:  # tifffile raises whatever the bytes provoke
        raise unreadable(root, path, error) from error
    return header


def read_tiff(root: Path, header: Tiff, *, indices: bool = False) -> NDArray[Any]:
    """The samples in the order of ``header.axes``; a palette's colours lie on a last axis unless `indices`."""
    try:
        with opened_tiff(root, header.path) as file:
            series = file.series[0]
            _check_segments(header.path, series)
            try:
                array = series.asarray()
            except ValueError:
                # tifffile leaves LZW and JPEG to a package that ndvol does not need otherwise.
                array = _by_pillow(root, header, [page.index for page in series.pages])
            array = np.asarray(array).reshape(header.shape).astype(header.dtype, copy=False)
            colours = series.keyframe.colormap
    except NdvolError:
        raise
    except Exception as error:  # decoders raise whatever the bytes provoke
        raise unreadable(root, header.path, error) from error
    if header.photometric == "PALETTE" and not indices:
        return np.moveaxis(_palette(colours)[:, array], 0, -1)
    return _without_alpha(array, header) if header.alpha else array


def _check_segments(path: str, series: Any) -> None:
    """Raise where a strip or tile unpacks to more than its pixels; tifffile would make room for all of it."""
    keyframe = series.keyframe
    if keyframe.compression not in _INFLATERS:
        return
    limit = prod(keyframe.chunks) * keyframe.dtype.itemsize + FREE_INFLATED
    for page in series.pages:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if count * MAX_RATIO <= FREE_INFLATED and keyframe.compression != _LZMA:
                continue
            packed = page.parent.filehandle
            packed.seek(offset)
            if len(_INFLATERS[keyframe.compression]().decompress(packed.read(count), limit)) == limit:
                raise SourceError(f"{path} packs more than its pixels", got=f"{limit} bytes or more", code="too-large")


def _header(path: str, file: tifffile.TiffFile, size: int) -> Tiff:
    if len(file.series) != 1:
        raise SourceError(
            f"{path} holds {len(file.series)} images of different kinds",
            hint="save the one you need as a file of its own",
            code="mixed-pages",
        )
    series = file.series[0]
    page = series.keyframe
    axes = "".join(_AXES.get(a, "?") for a in series.axes)
    if "?" in axes or len(set(axes)) != len(axes):
        raise SourceError(f"{path} has axes {series.axes}; not supported yet", expected="of T C Z Y X", code="axes")
    photometric = page.photometric.name
    if photometric not in ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE"):
        raise SourceError(f"{path} has colours of kind {photometric}", hint="convert it to RGB", code="colour")
    orientation = page.tags.get("Orientation")
    if orientation is not None and int(orientation.value) != 1:
        raise SourceError(f"{path} is stored turned", got=f"Orientation {int(orientation.value)}", code="orientation")
    dtype = np.dtype(np.uint8) if series.dtype.kind == "b" else series.dtype.newbyteorder("=")
    if dtype.kind not in "iuf":
        raise SourceError(f"{path} holds samples of type {dtype}", expected="integers or floats", code="voxel-type")
    if series.nbytes > MAX_RATIO * size:
        raise SourceError(f"{path} declares {series.nbytes} bytes of samples in a file of {size}", code="too-large")
    spacing, step = {}, 0.0
    if file.is_imagej:
        # Fiji's "frame interval" is in seconds.
        spacing, step = _imagej_spacing(file, page), _positive((file.imagej_metadata or {}).get("finterval"))
    elif file.is_ome:
        spacing, step = _ome_spacing(file)
    colours = _palette(page.colormap).dtype if photometric == "PALETTE" else dtype
    return Tiff(path, axes, tuple(series.shape), dtype, photometric, _has_alpha(path, page), colours, spacing, step)


def _has_alpha(path: str, page: Any) -> bool:
    """Whether ExtraSamples (TIFF 6.0, section 18) names an alpha channel; unspecified samples are channels."""
    extra = [int(e) for e in page.extrasamples]
    if len(extra) > 1 and any(extra):
        raise SourceError(f"{path} has {len(extra)} extra samples with alpha among them", code="alpha")
    return any(extra)


def _imagej_spacing(file: tifffile.TiffFile, page: Any) -> dict[str, float]:
    """XResolution and YResolution are pixels per `unit`, `spacing` is the step along z."""
    metadata = file.imagej_metadata or {}
    scale = _UM_PER_UNIT.get(str(metadata.get("unit", "")).replace("\\u00B5", "µ"))
    if scale is None:
        return {}
    found: dict[str, float] = {}
    for axis, name in (("x", "XResolution"), ("y", "YResolution")):
        tag = page.tags.get(name)
        if tag is not None and tag.value[0] > 0:
            found[axis] = scale * tag.value[1] / tag.value[0]
    if (step := _positive(metadata.get("spacing"))) > 0:
        found["z"] = scale * step
    return found


def _ome_spacing(file: tifffile.TiffFile) -> tuple[dict[str, float], float]:
    """PhysicalSizeX, -Y, -Z of the one Pixels element in µm, and its TimeIncrement in s, their default units."""
    pixels = [e for e in ElementTree.fromstring(file.ome_metadata).iter() if e.tag.endswith("}Pixels")]
    if len(pixels) != 1:
        return {}, 0.0
    found: dict[str, float] = {}
    for axis in "xyz":
        size = _positive(pixels[0].get(f"PhysicalSize{axis.upper()}"))
        scale = _UM_PER_UNIT.get(pixels[0].get(f"PhysicalSize{axis.upper()}Unit", "µm"))
        if size > 0 and scale is not None:
            found[axis] = scale * size
    step = _positive(pixels[0].get("TimeIncrement"))
    return found, step * _SECONDS.get(pixels[0].get("TimeIncrementUnit", "s"), 0.0)


def _positive(value: object) -> float:
    """A number above 0 in whatever form metadata hold it; 0 for anything else."""
    try:
        number = float(str(value))
    except ValueError:
        return 0.0
    return number if 0 < number < inf else 0.0


def _by_pillow(root: Path, header: Tiff, pages: Sequence[int]) -> NDArray[Any]:
    """The pages decoded by Pillow's libtiff, which raises on damage where ITK's fills with zeros."""
    if header.photometric == "MINISWHITE":
        raise SourceError(
            f"{header.path} combines compression with MINISWHITE; not supported yet",
            hint="save it without compression",
            code="compression",
        )
    planes = []
    with Image.open(root / header.path, formats=("TIFF",)) as image:
        for page in pages:
            image.seek(page)
            planes.append(np.array(image))
    array = np.stack(planes)
    if array.dtype.itemsize < header.dtype.itemsize:
        raise ValueError(f"decoded to {array.dtype}, the header says {header.dtype}")  # 16-bit colours, narrowed
    if not np.array_equal(array, array.astype(header.dtype)):
        raise ValueError(f"decoded to values that {header.dtype} does not hold")
    return array


def _palette(colours: NDArray[Any]) -> NDArray[Any]:
    """(3, n) uint16 as TIFF stores it; uint8 when the entries are 8-bit colours in the usual disguise."""
    if np.array_equal(colours, (colours >> 8) * 257) or not (colours & 255).any():
        return np.asarray((colours >> 8).astype(np.uint8))
    return colours


def _without_alpha(array: NDArray[Any], header: Tiff) -> NDArray[Any]:
    channel = header.axes.index("c")
    alpha = np.take(array, -1, axis=channel)
    if header.dtype.kind != "u" or (alpha != np.iinfo(header.dtype).max).any():
        raise SourceError(f"{header.path} is partly transparent", hint="remove its alpha channel", code="alpha")
    return np.delete(array, -1, axis=channel)


def unreadable(root: Path, path: str, error: Exception) -> SourceError:
    """The error for whatever the bytes of a TIFF provoked."""
    return SourceError(
        f"{path} cannot be read as TIFF",
        got=reason(error, root),
        hint="copy the file again, or save it without compression",
        code="unreadable",
    )
