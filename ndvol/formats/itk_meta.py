"""MetaImage headers (``.mha``, ``.mhd``): the MetaIO documentation of ITK, section "MetaImage"."""

from __future__ import annotations

from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ndvol.formats.bulk import FROM_END, Layout, confined, numbered
from ndvol.formats.itk_header import MAX_HEADER, MM_PER_UNIT, Head, Text, canonical_axes, placed_grid
from ndvol.geometry import Grid

_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    # MetaIO writes 4 bytes for these on every platform (metaTypes.h, MET_ValueTypeSize).
    "long": "i4",
    "ulong": "u4",
    "long_long": "i8",
    "ulong_long": "u8",
    "float": "f4",
    "double": "f8",
}
_MODALITIES = {"met_mod_ct": "CT", "met_mod_mr": "MR", "met_mod_us": "US", "met_mod_nm": "NM"}


def read_meta_text(root: Path, path: str) -> Text:
    """The fields of a header; it ends with the line ``ElementDataFile``."""
    with (root / path).open("rb") as stream:
        data = stream.read(MAX_HEADER)
    fields: dict[str, str] = {}
    at = 0
    while at < len(data) and "elementdatafile" not in fields:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end].decode("utf-8", "backslashreplace").strip()
        key, found, value = line.partition("=")
        key = key.strip().lower()
        if line and (not found or not key.isascii() or not key.isprintable()):
            break
        if key in fields:
            raise Text(path, fields, (), at).fault("the header repeats a field", key)
        if line:
            fields[key] = value.strip()
        at = min(end + 1, len(data))
    text = Text(path, fields, (), at)
    if "elementdatafile" not in fields:
        raise text.fault("no MetaImage header", f"{data[:24]!r}", code="unreadable")
    return Text(path, fields, _names(text, data[at:]), at)


def _names(text: Text, rest: bytes) -> tuple[str, ...]:
    value = text.fields["elementdatafile"]
    words = value.split()
    if not words:
        raise text.fault("names no data file", "ElementDataFile without a value")
    if value.upper() == "LOCAL":
        return ()
    if words[0].upper() == "LIST" and len(words) <= 2:
        return tuple(line.strip() for line in rest.decode("utf-8", "backslashreplace").splitlines() if line.strip())
    return numbered(text.path, words) if "%" in value else (value,)


def meta_head(root: Path, text: Text) -> Head:
    """What the fields come to, with everything that can be refused without the voxels refused."""
    fields = text.fields
    if fields.get("objecttype", "image").lower() != "image":
        raise text.fault("holds no image", fields["objecttype"], expected="ObjectType = Image", code="not-an-image")
    # The header's own axes run from the fastest; channels are faster still.
    sizes = text.lengths("dimsize")
    ndim = len(sizes)
    if fields.get("ndims", str(ndim)) != str(ndim) or not 2 <= ndim <= 4:
        raise text.fault("has a number of axes that is not supported", f"DimSize {sizes}", code="axes")
    names = "xyzt"[:ndim]
    channels = int(text.numbers("elementnumberofchannels", 1)[0]) if "elementnumberofchannels" in fields else 1
    if channels < 1:
        raise text.fault("declares an empty or impossible shape", f"{channels} channels", code="shape")
    if channels > 1:
        names, sizes = "c" + names, [channels, *sizes]
    _refuse_intensity_function(text)
    layout = _layout(root, text, prod(sizes))
    grid, warnings = _grid(text, names, sizes, ndim)
    return Head(
        text.path,
        layout,
        names[::-1],
        tuple(sizes[::-1]),
        grid,
        modality=_MODALITIES.get(fields.get("modality", "").lower(), ""),
        warnings=tuple(warnings),
    )


def _refuse_intensity_function(text: Text) -> None:
    for name, neutral in (("elementtointensityfunctionslope", 1.0), ("elementtointensityfunctionoffset", 0.0)):
        if name in text.fields and text.numbers(name, 1)[0] != neutral:
            raise text.fault(
                "scales its values by ElementToIntensityFunction, which ITK does not apply",
                text.fields[name],
                hint="write the file again with the values themselves",
                code="rescale",
            )


def _layout(root: Path, text: Text, count: int) -> Layout:
    fields = text.fields
    kind = fields.get("elementtype", "").lower().removeprefix("met_").removesuffix("_array")
    if kind not in _TYPES:
        raise text.fault("holds voxels of a type that is not supported", fields.get("elementtype"), code="voxel-type")
    big = _flag(text, "binarydatabyteordermsb", _flag(text, "elementbyteordermsb", False))
    dtype: np.dtype[Any] = np.dtype(_TYPES[kind]).newbyteorder(">" if big else "<")
    encoding = "raw" if _flag(text, "binarydata", True) else "ascii"
    if _flag(text, "compresseddata", False):
        encoding = "zlib"
    skip = int(text.numbers("headersize", 1)[0]) if "headersize" in fields else 0
    if skip < FROM_END or (skip and encoding != "raw") or (encoding == "zlib" and len(text.names) > 1):
        raise text.fault("combines HeaderSize, compression and data files in a way not supported", skip)
    local = fields["elementdatafile"].upper() == "LOCAL"
    if not local and not text.names:
        raise text.fault("names no data file", fields["elementdatafile"])
    files = (text.path,) if local else tuple(confined(root, text.path, name) for name in text.names)
    return Layout(files, encoding, dtype, count, start=text.end if local else 0, skip=0 if local else skip)


def _flag(text: Text, name: str, default: bool) -> bool:
    value = text.fields.get(name, str(default)).lower()
    if value not in ("true", "false", "t", "f", "1", "0"):
        raise text.fault(f"the field '{name}' is neither True nor False", repr(value))
    return value in ("true", "t", "1")


def _grid(text: Text, names: str, sizes: list[int], ndim: int) -> tuple[Grid, list[str]]:
    """Row i of TransformMatrix is the direction of axis i, in LPS, as ITK has it; its length is not normalised.

    DistanceUnits become mm, as MetaIO defines them; ITK reads the numbers as mm whatever the unit.
    """
    fields = text.fields
    axes, shape = canonical_axes(names, sizes)
    n = min(ndim, 3)
    spacing = None
    stated = next((name for name in ("elementspacing", "elementsize") if name in fields), "")
    unit = fields.get("distanceunits", "mm").lower()
    if stated and unit in MM_PER_UNIT:
        spacing = text.numbers(stated, ndim) * MM_PER_UNIT[unit]
    matrix = next((name for name in ("transformmatrix", "rotation", "orientation") if name in fields), "")
    if not matrix or spacing is None or n < 3:
        steps = None if spacing is None else spacing[:n][::-1].tolist()
        grid = Grid.regular(axes, shape, spacing=steps, frame="LOCAL")
        known = "spacing alone is known" if steps else "spacing is not stated"
        return grid, [f"no TransformMatrix over three axes: {known}, position and orientation unknown"]
    directions = text.numbers(matrix, ndim * ndim).reshape(ndim, ndim)
    if ndim == 4 and (np.abs(directions[:3, 3]).max() or np.abs(directions[3, :3]).max()):
        raise text.fault("mixes time and space in TransformMatrix", fields[matrix][:100], code="axes")
    warnings = ["the fourth axis is taken as time"] if ndim == 4 else []
    place = next((name for name in ("offset", "position", "origin") if name in fields), "")
    if not place:
        warnings.append("no Offset: the position is unknown, the first voxel is put at 0")
    origin = text.numbers(place, ndim)[:3] * MM_PER_UNIT[unit] if place else np.zeros(3)
    columns = directions[:3, :3] * spacing[:3, None]
    return placed_grid(axes, shape, columns, origin, "LPS"), warnings


def is_meta(path: str) -> bool:
    """By suffix."""
    return PurePosixPath(path).suffix.lower() in (".mha", ".mhd")
