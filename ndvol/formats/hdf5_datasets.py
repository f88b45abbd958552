"""One HDF5 data set as a volume: its axes and spacing by the conventions that writers follow, and its values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats.bulk import DEFLATE_RATIO, truncated
from ndvol.formats.itk_header import canonical_axes
from ndvol.geometry import Grid
from ndvol.hdf5 import refuse_unsafe

MAX_OBJECTS = 20_000
"""Groups and data sets that are looked through in one file."""
MAX_TEXT = 2**22
"""Bytes of a text that is read: attributes, headers in XML."""

UNKNOWN = "spacing, position and orientation unknown"

_BY_NUMBER = {2: "yx", 3: "zyx", 4: "tzyx"}
_LETTERS = {**{a: a for a in "tczyx"}, "time": "t", "channel": "c", "channels": "c"}
_IMAGES = {("IMAGE_TRUECOLOR", "INTERLACE_PIXEL"): "yxc", ("IMAGE_TRUECOLOR", "INTERLACE_PLANE"): "cyx"}
"""HDF5 Image and Palette Specification 1.2, table 1."""


@dataclass(frozen=True, slots=True)
class Part:
    """A volume of a file.

    Attributes
    ----------
    name : tells it from others of the file; empty for the only one.
    datasets : where its values are; several are one time each, along a ``t`` axis in front.
    letters, shape : axes in the file's order; those of `grid` lack a t or c of length 1.
    dtype : of the volume.
    grid : in storage order.
    files : that it was read from besides the HDF5 file.
    of_case : whether it is one image of a case that the file is, and not a case of its own.
    """

    name: str
    datasets: tuple[str, ...]
    letters: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    grid: Grid
    modality: str = ""
    attributes: dict[str, float | int | str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    of_case: bool = False

    def placed(self, spacing_mm: Sequence[float] | None, *warnings: str) -> Part:
        """The same volume with a spacing in storage order; None where it is unknown."""
        grid = Grid.regular(self.grid.axes, self.grid.shape, spacing=spacing_mm, frame="LOCAL")
        return replace(self, grid=grid, warnings=(*self.warnings, *warnings))


def text(value: Any) -> str:
    """A string attribute, scalar or of one element, however its writer stored it; empty for anything else."""
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size == 1 else ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def attribute(node: Any, name: str) -> Any:
    """An attribute of moderate size; None when it is not there or too large to be what it should be."""
    if name not in node.attrs:
        return None
    stored = node.attrs.get_id(name)
    return node.attrs[name] if prod(stored.shape or ()) * stored.dtype.itemsize <= MAX_TEXT else None


def is_plausible(dataset: Any) -> bool:
    """Whether a data set may be a volume: real numbers on two axes or more that are longer than 1."""
    dtype, shape = dataset.dtype, dataset.shape or ()
    numeric = dtype.kind in "biuf" and dtype.itemsize <= 8
    role = text(attribute(dataset, "CLASS"))
    return numeric and sum(n > 1 for n in shape) > 1 and min(shape) > 0 and role not in ("DIMENSION_SCALE", "PALETTE")


def candidates(file: Any) -> list[Any]:
    """The plausible data sets of a file, in the order of their names; links that leave the file are not followed.

    Raises
    ------
    UnsafeFileError : when a data set takes its values from elsewhere.
    """
    found: list[Any] = []
    seen = 0

    def visit(_: str, node: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if hasattr(node, "dims"):
            refuse_unsafe(node)
            if is_plausible(node):
                found.append(node)
        return True if seen > MAX_OBJECTS else None

    if file.visititems(visit):
        raise SourceError("the file holds too many objects to look through", expected=MAX_OBJECTS, code="too-large")
    return found


def part_of(path: str, dataset: Any, size: int, letters: str = "") -> Part:
    """The volume in one audited data set of the file `path` of `size` bytes; spacing where it states one.

    Parameters
    ----------
    letters : the axes, where the layout of the file tells; by default what the data set states, or its number of axes.
    """
    where = f"{dataset.name} of {path}"
    if dataset.dtype.kind == "c":
        hint = "take the magnitude, or reconstruct k-space to images first"
        raise SourceError(f"{where} holds complex values; not supported", hint=hint, code="voxel-type")
    if dataset.dtype.kind not in "biuf" or dataset.dtype.itemsize > 8:
        raise SourceError(f"{where} holds values of type {dataset.dtype}; not supported", code="voxel-type")
    shape = tuple(int(n) for n in dataset.shape or ())
    if min(shape, default=0) < 1:
        raise SourceError(f"{where} declares an empty or impossible shape", got=shape, code="shape")
    needed = prod(shape) * dataset.dtype.itemsize
    if needed > size * DEFLATE_RATIO:
        raise truncated(where, f"a file of {size} bytes", needed)
    _refuse_packed(where, dataset)
    stated = letters or _stated_axes(where, dataset)
    letters = stated or _BY_NUMBER.get(len(shape), "")
    if len(letters) != len(shape):
        raise SourceError(
            f"{where} has {len(shape)} axes and does not name them",
            got=shape,
            expected="2 (y, x), 3 (z, y, x) or 4 (t, z, y, x), or names",
            hint="set the attribute `axes`, such as 'tczyx'",
            code="axes",
        )
    # ilastik gives every data set a t and a c.
    kept = [(a, n) for a, n in zip(letters, shape, strict=True) if n > 1 or a in "zyx"]
    axes, stored = canonical_axes("".join(a for a, _ in kept), [n for _, n in kept])
    # bool as uint8 and float16 as float32: nothing is lost.
    dtype = np.dtype({"b1": "u1", "f2": "f4"}.get(dataset.dtype.str[1:], dataset.dtype.str[1:]))
    notes = () if stated else (f"the axes have no names; taken as {', '.join(letters)}",)
    part = Part("", (dataset.name,), letters, shape, dtype, Grid.regular(axes, stored), warnings=notes)
    return _with_spacing(part, dataset)


def read_part(part: Part, datasets: list[Any]) -> tuple[NDArray[Any], list[str]]:
    """The values in storage order, and warnings; `datasets` are those that `Part.datasets` names."""
    dropped = [a for a in part.letters if a not in part.grid.axes]
    order = [part.letters.index(a) for a in (*dropped, *part.grid.axes) if a in part.letters]
    stacked = len(datasets) > 1
    warnings: list[str] = []
    out = np.empty(part.grid.shape, part.dtype)
    for k, dataset in enumerate(datasets):
        missing = _unwritten(dataset)
        if missing:
            warnings.append(f"{missing} chunks of {dataset.name} were never written and hold its fill value")
        values = np.asarray(dataset[...])
        if part.dtype == np.uint16 and values.dtype == np.int16:
            values = values.view(np.uint16)
        target = out[k] if stacked else out
        target[...] = values.transpose(order).reshape(target.shape)
    return out, warnings


def _unwritten(dataset: Any) -> int:
    """How many chunks were never written; a data set of which nothing was written is refused."""
    if dataset.id.get_storage_size() == 0:
        raise SourceError(f"no value of {dataset.name} was ever written", code="no-values")
    if dataset.chunks is None:
        return 0
    expected = prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    return int(expected - dataset.id.get_num_chunks())


def _refuse_packed(where: str, dataset: Any) -> None:
    """Raise for values that NetCDF's conventions scale (CF 8.1): the stored numbers are not the real ones."""
    factors = [(name, neutral) for name, neutral in (("scale_factor", 1), ("add_offset", 0)) if name in dataset.attrs]
    if any(not np.all(attribute(dataset, name) == neutral) for name, neutral in factors):
        hint = "unpack it first"
        raise SourceError(f"{where} stores packed values (scale_factor, add_offset)", hint=hint, code="rescale")


def _stated_axes(where: str, dataset: Any) -> str:
    """The axes as the data set names them, by the first convention that it follows; empty when it follows none."""
    ndim = len(dataset.shape)
    for names in (_labels(dataset), _scales(dataset), _axes_attribute(dataset), _axistags(dataset), _image(dataset)):
        letters = [_LETTERS.get(name.lower(), "") for name in names]
        if not any(letters):
            continue
        if len(letters) != ndim or not all(letters) or len(set(letters)) < ndim or not {"y", "x"} <= set(letters):
            raise SourceError(
                f"{where} has axes that are not supported",
                got=", ".join(name[:20] or "(none)" for name in names[:9]),
                expected=f"{ndim} different ones of t, c, z, y, x, with y and x among them",
                code="axes",
            )
        return "".join(letters)
    return ""


def _labels(dataset: Any) -> list[str]:
    """DIMENSION_LABELS, written by H5DSset_label and ``h5py.Dataset.dims``.

    Read as an attribute, for H5DSget_label crashes on damaged ones (HDF5 2.0: 8 of 1,000 mutated files).
    """
    return [text(v) for v in np.ravel(attribute(dataset, "DIMENSION_LABELS")) if v is not None]


def _scales(dataset: Any) -> list[str]:
    """Names of the attached dimension scales, which are NetCDF-4's named dimensions."""
    attached = attribute(dataset, "DIMENSION_LIST")
    if not isinstance(attached, np.ndarray):
        return []
    return [(dataset.file[refs[0]].name or "").rpartition("/")[2] if len(refs) else "" for refs in attached.ravel()]


def _axes_attribute(dataset: Any) -> list[str]:
    """The attribute ``axes``: ``zyx``, ``z,y,x`` or a list of names."""
    value = attribute(dataset, "axes")
    if isinstance(value, np.ndarray) and value.size > 1:
        return [text(v) for v in value.ravel()[:9]]
    words = text(value).replace(",", " ").split()
    return list(words[0]) if len(words) == 1 and words[0].lower() not in _LETTERS else words


def _axistags(dataset: Any) -> list[str]:
    """The attribute ``axistags`` of vigra and ilastik, JSON."""
    try:
        tags = json.loads(text(attribute(dataset, "axistags")) or "{}")
        return [str(axis["key"]) for axis in tags.get("axes", [])]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def _image(dataset: Any) -> list[str]:
    """The colours of an HDF5 image."""
    kind = text(attribute(dataset, "IMAGE_SUBCLASS")), text(attribute(dataset, "INTERLACE_MODE"))
    return list(_IMAGES.get(kind, ""))


def _with_spacing(part: Part, dataset: Any) -> Part:
    """With the spacing of ``element_size_um`` (HDF5 plug-in of ImageJ, ilastik): z, y, x, in micrometres."""
    sizes = np.ravel(attribute(dataset, "element_size_um"))
    spatial = [a for a in part.letters if a in "zyx"]
    if "element_size_um" not in dataset.attrs:
        return part.placed(None, UNKNOWN)
    usable = sizes.dtype.kind in "iuf" and len(sizes) == len(spatial) and np.isfinite(sizes).all() and min(sizes) > 0
    if not usable or spatial != sorted(spatial, reverse=True):
        return part.placed(None, f"element_size_um does not fit the axes z, y, x; {UNKNOWN}")
    return part.placed([float(s) / 1000 for s in sizes])
