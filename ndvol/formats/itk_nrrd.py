"""NRRD headers (``.nrrd``, ``.nhdr``): the definition of the NRRD file format, versions 1 to 5 (teem, nrrd/format).

SimpleITK 2.5.7 is the witness in the tests, not the source: it puts voxels of sheared ``space directions`` where
they belong, but it ignores ``space units`` and takes a space that it does not know, or that is not named, for LPS.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.formats.bulk import FROM_END, Layout, confined, numbered
from ndvol.formats.itk_header import MAX_HEADER, MM_PER_UNIT, Head, Text, canonical_axes, placed_grid
from ndvol.formats.itk_segments import is_segmentation, segment_layers
from ndvol.geometry import Grid

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPE_NAMES = {name: code for code, names in _TYPES.items() for name in names.split(", ")}
_ENCODINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "txt": "ascii", "text": "ascii", "ascii": "ascii"}
_ENCODINGS["hex"] = "hex"
_SIGNS = {
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "scanner-xyz": (1, 1, 1),
}
"""Per space what turns its world into LPS. Scanner coordinates are those of ACR/NEMA, and ITK takes them as LPS."""
_WITH_TIME = {"rast": "ras", "last": "las", "lpst": "lps", "scanner-xyz-time": "scanner-xyz"}
_WITH_TIME |= {f"{name}-time": name for name in ("right-anterior-superior", "left-anterior-superior")}
_WITH_TIME["left-posterior-superior-time"] = "left-posterior-superior"
_SPATIAL, _TIME, _DROPPED = ("domain", "space"), ("time",), ("stub", "scalar")
_COMPONENTS = {"list", "vector", "covariant-vector", "normal", "point", "rgb-color", "hsv-color", "xyz-color"}
_COMPONENTS |= {"rgba-color", "2-vector", "3-color", "4-color", "3-vector", "3-gradient", "3-normal", "4-vector"}
_ALIASES = {"datafile": "data file", "byteskip": "byte skip", "lineskip": "line skip", "centers": "centerings"}
_VECTOR = re.compile(r"none|\([^()]*\)")


def read_nrrd_text(root: Path, path: str) -> Text:
    """The fields and key/value pairs of a header; it ends with an empty line, or with a detached header's file."""
    with (root / path).open("rb") as stream:
        data = stream.read(MAX_HEADER)
    if not re.match(rb"NRRD000\d\r?\n", data):
        raise Text(path, {}, (), 0).fault("no NRRD header", f"{data[:8]!r}", code="unreadable")
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    names: list[str] | None = None
    at, closed = data.index(b"\n") + 1, False
    while at < len(data) and not closed:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end].rstrip(b"\r").decode("utf-8", "backslashreplace")
        at = min(end + 1, len(data))
        key, found, value = line.partition(":")
        if names is not None:
            names += [line.strip()] if line.strip() else []
        elif not line:
            closed = True
        elif found and value.startswith("="):
            pairs[key] = re.sub(r"\\([\\n])", lambda found: "\n" if found[1] == "n" else "\\", value[1:])
        elif found and not line.startswith("#"):
            name = key.strip().lower()
            name = _ALIASES.get(name, name)
            if name in fields:
                raise Text(path, fields, (), at).fault("the header repeats a field", repr(name))
            fields[name] = value.strip()
            names = [] if name == "data file" and value.split()[:1] == ["LIST"] else None
        elif not line.startswith("#"):
            raise Text(path, fields, (), at).fault("a line of the header is no field", repr(line[:80]))
    text = Text(path, fields, (), at, pairs)
    if "data file" not in fields:
        if not closed:
            raise text.fault("the header does not end", f"{len(data)} bytes", code="truncated")
        return text
    return Text(path, fields, _names(text, names), at, pairs)


def _names(text: Text, listed: list[str] | None) -> tuple[str, ...]:
    value = text.fields["data file"]
    if listed is not None:
        return tuple(listed)
    # A last number may say how many axes each file holds; the values are one run of bytes in any case.
    words = value.split()
    if "%" not in value:
        return (value,)
    return numbered(text.path, words if len(words) < 5 or "%" not in words[-5] else words[:-1])


def nrrd_head(root: Path, text: Text) -> Head:
    """What the header comes to, with everything that can be refused without the voxels refused."""
    sizes = text.lengths("sizes")
    if text.fields.get("dimension") != str(len(sizes)):
        got = f"dimension {text.fields.get('dimension')!r}, sizes {sizes}"
        raise text.fault("declares an impossible shape", got, code="shape")
    layout = _layout(root, text, prod(sizes))
    warnings: list[str] = []
    vectors = _vectors(text, len(sizes))
    names = _axis_names(text, sizes, vectors, warnings)
    kept = [i for i, name in enumerate(names) if name]
    file_axes = "".join(names[i] for i in kept)
    axes, shape = canonical_axes(file_axes, [sizes[i] for i in kept])
    grid = _grid(text, axes, shape, [names.index(a) for a in "xyz" if a in names], vectors, warnings)
    kept_shape = tuple(sizes[i] for i in reversed(kept))
    segments = segment_layers(text, sizes[names.index("c")] if "c" in names else 1)
    modality = "SEG" if segments or is_segmentation(text.path) else ""
    return Head(text.path, layout, file_axes[::-1], kept_shape, grid, modality, {}, tuple(warnings), segments)


def _layout(root: Path, text: Text, count: int) -> Layout:
    fields = text.fields
    kind = _TYPE_NAMES.get(" ".join(fields.get("type", "").lower().split()))
    if kind is None:
        raise text.fault("holds voxels of a type that is not supported", repr(fields.get("type")), code="voxel-type")
    encoding = _ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise text.fault(
            "uses an encoding that is not supported",
            repr(fields.get("encoding")),
            expected="raw, gzip, ascii or hex",
            hint="write the file again with gzip",
            code="encoding",
        )
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big") and kind[1] != "1" and encoding != "ascii":
        raise text.fault("does not state its byte order", repr(endian), expected="endian: little or big")
    dtype: np.dtype[Any] = np.dtype(kind).newbyteorder(">" if endian == "big" else "<")
    lines, skip = (int(text.numbers(n, 1)[0]) if n in fields else 0 for n in ("line skip", "byte skip"))
    if lines < 0 or skip < FROM_END or (skip == FROM_END and encoding != "raw"):
        raise text.fault("skips lines or bytes in a way that is not supported", f"{lines} lines, {skip} bytes")
    detached = "data file" in fields
    if detached and not text.names:
        raise text.fault("names no data file", repr(fields["data file"]))
    files = tuple(confined(root, text.path, name) for name in text.names) or (text.path,)
    return Layout(files, encoding, dtype, count, start=0 if detached else text.end, lines=lines, skip=skip)


def _vectors(text: Text, ndim: int) -> list[NDArray[np.float64] | None]:
    """``space directions`` per axis, None for ``none``; empty when the field is missing."""
    if "space directions" not in text.fields:
        return []
    found = _VECTOR.findall(text.fields["space directions"])
    if len(found) != ndim:
        raise text.fault("needs one space direction per axis", repr(text.fields["space directions"][:200]))
    return [None if word == "none" else _vector(text, word) for word in found]


def _vector(text: Text, word: str) -> NDArray[np.float64]:
    try:
        return np.array([float(number) for number in word.strip("() ").split(",")])
    except ValueError:
        raise text.fault("a vector of the header is not numbers", repr(word[:100])) from None


def _axis_names(text: Text, sizes: list[int], vectors: list[Any], warnings: list[str]) -> list[str]:
    """Per axis of the file its letter, empty where the axis has no meaning and one value."""
    kinds = text.fields.get("kinds", "").lower().split() or ["???"] * len(sizes)
    if len(kinds) != len(sizes):
        raise text.fault("needs one kind per axis", repr(text.fields["kinds"][:100]))
    spatial, names = iter("xyzt"), []
    for i, kind in enumerate(kinds):
        unstated = kind in ("???", "none") and (not vectors or vectors[i] is not None)
        if kind in _SPATIAL or unstated:
            name = next(spatial, "?")
        else:
            name = "t" if kind in _TIME else "c" if kind in _COMPONENTS else "?"
            name = "" if kind in _DROPPED and sizes[i] == 1 else name
        names.append(name)
    letters = [name for name in names if name]
    if "?" in letters or len(set(letters)) < len(letters) or "y" not in letters:
        raise text.fault(
            "has axes that are not supported",
            f"kinds {' '.join(kinds)}, sizes {sizes}",
            expected="two or three spatial axes (domain, space), at most one time and one of components (list …)",
            code="axes",
        )
    if "t" in letters and "time" not in kinds:
        warnings.append("the fourth axis is taken as time")
    return names


def _grid(
    text: Text, axes: str, shape: tuple[int, ...], spatial: list[int], vectors: list[Any], warnings: list[str]
) -> Grid:
    """`spatial` are the positions of x, y and, if any, z among the axes of the file."""
    space = text.fields.get("space", "").lower()
    space = _WITH_TIME.get(space, space)
    if not vectors:
        return _regular(text, axes, shape, spatial, warnings)
    columns = [vectors[i] for i in spatial]
    origin = _vector(text, text.fields["space origin"]) if "space origin" in text.fields else None
    known = [v for v in (*columns, origin) if v is not None]
    width = len(known[0]) if known else 0
    if any(v is None for v in columns) or any(len(v) != width for v in known) or width < len(spatial):
        raise text.fault("the space directions do not fit the axes", repr(text.fields["space directions"][:200]))
    # A world with one component more than there are spatial axes is space and time where the time axis lies in it.
    timed = "t" in axes and sum(v is not None for v in vectors) == width == len(spatial) + 1
    space_width = len(spatial) if timed else 3
    steps = np.array(columns)
    if np.abs(steps[:, space_width:]).max(initial=0):
        raise text.fault("mixes time and space in its space directions", steps.tolist(), code="axes")
    scale = _world_scale(text, width)[:space_width]
    steps = steps[:, :space_width] * scale
    place = np.zeros(3)[: steps.shape[1]] if origin is None else origin[:space_width] * scale
    if len(spatial) < steps.shape[1]:
        warnings.append("a plane without thickness: its place in the patient is not kept")
        return Grid.regular(axes, shape, spacing=np.linalg.norm(steps, axis=1)[::-1].tolist(), frame="LOCAL")
    if origin is None:
        warnings.append("no space origin: the position is unknown, the first voxel is put at 0")
    if space not in _SIGNS or len(spatial) < 3:
        warnings.append(f"the space {space or 'of the file'!r} is not the patient's: position and orientation unknown")
        return placed_grid(axes, shape, steps, place, "LOCAL")
    if space == "scanner-xyz":
        warnings.append("coordinates of the scanner are taken as those of the patient (LPS)")
    signs = np.array(_SIGNS[space], np.float64)
    return placed_grid(axes, shape, steps * signs, place * signs, "LPS")


def _world_scale(text: Text, width: int) -> NDArray[np.float64]:
    """mm per unit of each world axis; mm where ``space units`` does not say (the convention of every writer)."""
    words = re.findall(r'"([^"]*)"', text.fields.get("space units", "")) or [""] * width
    unknown = [w for w in words[:3] if w.strip().lower() not in MM_PER_UNIT and w.strip()]
    if unknown or len(words) != width:
        raise text.fault("the space units are not understood", repr(text.fields["space units"][:100]), code="unit")
    return np.array([MM_PER_UNIT.get(w.strip().lower(), 1.0) for w in words])


def _regular(text: Text, axes: str, shape: tuple[int, ...], spatial: list[int], warnings: list[str]) -> Grid:
    """Without space directions: spacings alone, or not even those."""
    steps = text.numbers("spacings", len(text.fields["sizes"].split())) if "spacings" in text.fields else None
    units = re.findall(r'"([^"]*)"', text.fields.get("units", ""))
    words = [units[i].strip().lower() if i < len(units) else "" for i in spatial]
    stated = steps is not None and np.isfinite(steps[spatial]).all() and all(w in MM_PER_UNIT or not w for w in words)
    if steps is None or not stated:
        warnings.append("no space directions and no spacings: spacing, position and orientation unknown")
        return Grid.regular(axes, shape)
    scaled = [float(steps[i]) * MM_PER_UNIT.get(word, 1.0) for i, word in zip(spatial, words, strict=True)]
    warnings.append("no space directions: spacing alone is known, position and orientation unknown")
    return Grid.regular(axes, shape, spacing=scaled[::-1], frame="LOCAL")


def is_nrrd(path: str) -> bool:
    """By suffix."""
    return PurePosixPath(path).suffix.lower() in (".nrrd", ".nhdr")
