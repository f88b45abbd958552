"""The axes of a NIfTI image: what its dimensions, its intent and its type of voxels say about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats.itk_header import canonical_axes

INTENT_LABEL = 1002
_VECTORS = (1004, 1005, 1006, 1007, 2003, 2004)
"""Intents of several values per voxel: matrices, symmetric ones, displacements, vectors, RGB, RGBA (nifti1.h)."""
_NO_VOLUME = (1008, 1009, *range(3000, 4000))
"""Intents of points, triangles, and CIFTI's values on surfaces and in lists of voxels."""
_COLOURS = {("R", "G", "B"): 3, ("R", "G", "B", "A"): 4}
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True, slots=True)
class FileAxes:
    """The axes of the voxels as they follow each other in the file.

    Attributes
    ----------
    letters, sizes : the fastest last, as of a C array.
    axes, shape : in storage order, without the alpha channel.
    stored : type of one value.
    alpha : whether the last of four colours is alpha.
    """

    letters: str
    sizes: tuple[int, ...]
    axes: str
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    alpha: bool

    def canonical(self, path: str, flat: NDArray[Any]) -> NDArray[Any]:
        """The values in storage order.

        Raises
        ------
        SourceError : code ``alpha`` when a voxel is not opaque: what lies behind is not known.
        """
        array = flat.reshape(self.sizes)
        if self.alpha:
            if (array[..., 3] != 255).any():
                raise SourceError(
                    f"{path} is partly transparent",
                    got=f"alpha from {array[..., 3].min()} to {array[..., 3].max()}",
                    expected="255 everywhere",
                    hint="save it as RGB24, without alpha",
                    code="alpha",
                )
            array = array[..., :3]
        return array.transpose([self.letters.index(a) for a in self.axes])


def file_axes(path: str, header: Any, dtype: np.dtype[Any]) -> FileAxes:
    """The axes of an image: x, y, z always, t for dim[4] and c for dim[5] where they are longer than 1.

    dim[4] is a ``c`` axis when the intent says that it holds the components of a vector or matrix; the standard has
    them in dim[5] (nifti1.h, "MULTI-VALUED" data), but not all writers do.
    """
    stored, samples = _stored_type(path, dtype)
    ndim = int(header["dim"][0])
    shape = [int(n) for n in header["dim"][1 : 1 + ndim]]
    intent = int(header["intent_code"])
    if not 1 <= ndim <= 7 or min(shape, default=0) < 1:
        raise SourceError(f"{path} declares an empty or impossible shape", got=f"{ndim} axes, {shape}", code="shape")
    if intent in _NO_VOLUME:
        raise no_volume(path, f"intent {intent}")
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    shape += [1] * (3 - len(shape))
    letters = "xyzc" if len(shape) == 4 and intent in _VECTORS else "xyztc"[: len(shape)]
    if len(shape) > 5 or (samples and "c" in letters):
        raise SourceError(
            f"{path} has {len(shape)} axes" + (" and colours" if samples else ""),
            got=" x ".join(map(str, shape)),
            expected="at most x, y, z, time and values per voxel",
            hint="save one image per index of the last axis (nibabel: image.slicer[..., k]) and import those",
            code="axes",
        )
    kept = [(a, n) for a, n in zip(letters, shape, strict=True) if n > 1 or a in "xyz"]
    if samples:
        kept.insert(0, ("c", samples))
    names, sizes = "".join(a for a, _ in reversed(kept)), [n for _, n in reversed(kept)]
    axes, canonical = canonical_axes(names, [min(n, 3) if samples and a == "c" else n for a, n in reversed(kept)])
    return FileAxes(names, tuple(sizes), axes, canonical, stored, samples == 4)


def axis_facts(header: Any, axes: str) -> tuple[dict[str, float | int | str], list[str]]:
    """Attributes and warnings about the axes: the intent, and the time from one index of t to the next."""
    facts: dict[str, float | int | str] = {}
    warnings = []
    intent = int(header["intent_code"])
    if intent:
        facts["intent_code"] = intent
    if "t" in axes:
        unit, step = header.get_xyzt_units()[1], float(header["pixdim"][4])
        if unit in _SECONDS and np.isfinite(step) and step > 0:
            facts["t_spacing_s"] = round(_SECONDS[unit] * step, 6)
        elif unit not in (*_SECONDS, "unknown"):
            warnings.append(f"the axis t is no time: its unit is {unit}")
    if "c" in axes and intent not in _VECTORS and header["dim"][0] >= 5:
        warnings.append("the axis c holds several values per voxel; the intent does not say which")
    return facts, warnings


def no_volume(path: str, got: str) -> SourceError:
    """The error for NIfTI that holds something else than a grid of voxels."""
    return SourceError(f"{path} holds points or surfaces, not a volume", got=got, code="no-volume")


def _stored_type(path: str, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """The type of one value, and how many colours a voxel has; 0 for none."""
    if dtype.names in _COLOURS:
        return np.dtype(np.uint8), _COLOURS[dtype.names]
    if dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return dtype, 0
    hint = "save its real and imaginary part, or magnitude and phase, as images of their own"
    raise SourceError(
        f"{path} holds voxels of type {dtype}; not supported",
        expected="integers or floats of up to 64 bits, or RGB",
        hint=hint if dtype.kind == "c" else "",
        code="voxel-type",
    )
