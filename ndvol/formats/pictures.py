"""Pictures: PNG, JPEG, BMP and TIFF, as numbered stacks, multi-page files or single planes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import DEFAULT_READING, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.picture_files import Picture, is_animated_png, read_picture, read_picture_header
from ndvol.formats.tiff_files import Tiff, read_tiff, read_tiff_header
from ndvol.formats.tiff_tiles import tiff_in_place
from ndvol.formats.values import as_labels
from ndvol.geometry import Grid
from ndvol.verdict import Verdict
from ndvol.volumes import Volume

File = Picture | Tiff

_KINDS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".bmp": "bmp", ".tif": "tif", ".tiff": "tif"}
_NOT_OURS = ("thumbs.", "_thumb")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Axes, shape and type of what reading one file gives, in canonical order."""

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class _Stack:
    """Pictures that become one volume: numbered planes, or a single file."""

    folder: str
    stem: str
    kind: str
    files: tuple[File, ...]
    numbers: tuple[int, ...] = ()


class PictureReader:
    """Reads pictures whose names or pages say how they form volumes.

    - Pictures of one folder and one format whose names differ in exactly one number are one volume along z,
      in the order of that number (``img2`` before ``img10``). Missing numbers and unequal sizes or types are
      refused.
    - A TIFF of several pages is a volume of its own.
    - Any other picture is a 2-D volume of its own.

    Colours lie on a ``c`` axis. Spacing is known only where ImageJ or OME metadata state it for every axis.
    """

    name = "pictures"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        verdicts: list[Verdict] = []
        found: dict[str, list[File]] = defaultdict(list)
        claimed = [path for path in files if _is_picture(root, path)]
        for path in claimed:
            try:
                found[path.rpartition("/")[0]].append(_read_header(root, path))
            except NdvolError as error:
                verdicts.append(Verdict.refused(path, error))
        broken = {_pattern(v.source) for v in verdicts}
        series: list[Series] = []
        for folder, pictures in found.items():
            stacks = _stacks(folder, pictures)
            alone = len(stacks) == 1
            for stack in stacks:
                try:
                    if len(stack.files) > 1 and _pattern(stack.files[0].path) in broken:
                        raise SourceError("a picture of this stack cannot be read", code="incomplete")
                    series.append(_series(root, stack, alone))
                except NdvolError as error:
                    verdicts.append(Verdict.refused(_source(stack, alone), error, files=len(stack.files)))
        return Scan(tuple(series), tuple(verdicts), frozenset(claimed))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        headers = tuple(_read_header(root, path) for path in series.files)
        stacked = len(headers) > 1
        _check_equal(headers)
        if _with_z(_layout(headers[0]), len(headers)).shape != series.shape:
            raise SourceError(f"the files of {series.source} changed since they were scanned", code="changed")
        layout = _layout(headers[0], as_label)
        out = np.empty((len(headers), *layout.shape), layout.dtype)
        for k, header in enumerate(headers):
            out[k] = _canonical(root, header, layout, as_label)
        array = np.moveaxis(out, 0, layout.axes.index("y")) if stacked else out[0]
        final = _with_z(layout, len(headers))
        dropped = ["the alpha channel was dropped; it is opaque everywhere"] if any(h.alpha for h in headers) else []
        if as_label:
            array = as_labels(array, series.source)
        return VolumeData(
            array,
            _grid(headers[0], final),
            attributes=_attributes(headers[0]),
            warnings=(*_warnings(headers), *dropped),
        )

    def in_place(self, root: Path, series: Series) -> Volume | None:
        """See `InPlaceReader`: one TIFF without palette and alpha, in tiles or strips that tifffile decodes."""
        header = _read_header(root, series.files[0])
        if len(series.files) > 1 or isinstance(header, Picture) or header.alpha or header.photometric == "PALETTE":
            return None
        layout = _layout(header)
        source = tiff_in_place(root, header, layout.axes)
        if source is None:
            return None
        attributes = {**_attributes(header), "modality": "", "value_unit": ""}
        return Volume("image", _grid(header, layout), source, attributes)


def _is_picture(root: Path, path: str) -> bool:
    """By suffix; animated PNG is left to `VideoReader`."""
    name = path.rpartition("/")[2].lower()
    suffix = Path(name).suffix
    ours = suffix in _KINDS and not name.startswith((".", *_NOT_OURS))
    return ours and not (suffix == ".png" and is_animated_png(root / path))


def _read_header(root: Path, path: str) -> File:
    if _KINDS[Path(path).suffix.lower()] == "tif":
        return read_tiff_header(root, path)
    return read_picture_header(root, path)


def _layout(file: File, as_label: bool = False) -> _Layout:
    """What reading `file` gives; as a label, a palette picture keeps its indices."""
    if 0 in file.shape:
        raise SourceError(f"{file.path} has no pixel", got=f"shape {file.shape}", hint="export it again", code="shape")
    if isinstance(file, Picture):
        coloured = file.colour == "rgb" or (file.colour == "palette" and not as_label)
        return _Layout("cyx", (3, *file.shape), file.dtype) if coloured else _Layout("yx", file.shape, file.dtype)
    sizes = dict(zip(file.axes, file.shape, strict=True))
    if file.alpha:
        sizes["c"] -= 1
    if file.alpha and sizes["c"] == 1:
        del sizes["c"]
    palette = file.photometric == "PALETTE" and not as_label
    if palette:
        sizes["c"] = 3
    axes = "".join(a for a in "tczyx" if a in sizes)
    return _Layout(axes, tuple(sizes[a] for a in axes), file.colour_dtype if palette else file.dtype)


def _with_z(layout: _Layout, planes: int) -> _Layout:
    if planes == 1:
        return layout
    at = layout.axes.index("y")
    return _Layout(
        f"{layout.axes[:at]}z{layout.axes[at:]}", (*layout.shape[:at], planes, *layout.shape[at:]), layout.dtype
    )


def _canonical(root: Path, file: File, layout: _Layout, as_label: bool) -> NDArray[Any]:
    """The samples of one file in canonical axis order."""
    if isinstance(file, Picture):
        array = read_picture(root, file, indices=as_label)
        return np.moveaxis(array, -1, 0) if array.ndim == 3 else array
    array = read_tiff(root, file, indices=as_label)
    axes = file.axes
    if file.alpha and "c" not in layout.axes:
        array, axes = array.squeeze(axes.index("c")), axes.replace("c", "")
    elif "c" in layout.axes and "c" not in axes:
        axes += "c"
    return array.transpose([axes.index(a) for a in layout.axes])


def _stacks(folder: str, pictures: Sequence[File]) -> list[_Stack]:
    """Group the pictures of one folder by format and by what their names say beside the numbers."""
    groups: dict[tuple[str, ...], list[File]] = defaultdict(list)
    stacks = []
    for file in pictures:
        if isinstance(file, Tiff) and not file.is_plane:
            stacks.append(_Stack(folder, _stem(file.path), "tif", (file,)))
        else:
            groups[_pattern(file.path)].append(file)
    for pattern, members in groups.items():
        files = tuple(sorted(members, key=lambda file: (_numbers(file), file.path)))
        columns = list(zip(*map(_numbers, files), strict=True))
        varying = [k for k, column in enumerate(columns) if len(set(column)) > 1]
        if len(varying) == 1:
            words = _DIGITS.split(_stem(files[0].path))
            words[2 * varying[0] + 1] = "*"
            stacks.append(_Stack(folder, "".join(words), pattern[1], files, columns[varying[0]]))
        else:
            stacks += [_Stack(folder, _stem(file.path), pattern[1], (file,)) for file in files]
    return stacks


def _numbers(file: File) -> tuple[int, ...]:
    return tuple(map(int, _DIGITS.split(_stem(file.path))[1::2]))


def _pattern(path: str) -> tuple[str, ...]:
    """Folder, format and what the name says beside its numbers: equal for pictures that may be one stack."""
    return path.rpartition("/")[0], _KINDS[Path(path).suffix.lower()], *_DIGITS.split(_stem(path))[::2]


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _source(stack: _Stack, alone: bool) -> str:
    """The folder for its only stack, a pattern for one of several, the file for a single one."""
    if len(stack.files) == 1:
        return stack.files[0].path
    if alone:
        return stack.folder or "."
    return "/".join(filter(None, (stack.folder, f"{stack.stem}.{stack.kind}")))


def _series(root: Path, stack: _Stack, alone: bool) -> Series:
    _check_numbers(stack)
    _check_equal(stack.files)
    layout = _with_z(_layout(stack.files[0]), len(stack.files))
    grid = _grid(stack.files[0], layout)
    key, name = _key(root, stack, alone)
    return Series(
        reader=PictureReader.name,
        source=_source(stack, alone),
        files=tuple(file.path for file in stack.files),
        key=key,
        name=name,
        modality="",
        axes=layout.axes,
        shape=layout.shape,
        dtype=str(layout.dtype),
        spacing=_spacing_mm(grid),
        warnings=_warnings(stack.files),
    )


def _key(root: Path, stack: _Stack, alone: bool) -> tuple[str, str]:
    """Key and name: of the folder for its only stack, of the folder and the name's fixed part for others."""
    if len(stack.files) > 1 and alone:
        return stack.folder, stack.folder.rpartition("/")[2] or root.resolve().name or "pictures"
    stem = stack.stem.replace("*", "").strip("_-. ") if len(stack.files) > 1 else stack.stem
    stem = stem or stack.folder.rpartition("/")[2] or stack.kind
    return "/".join(filter(None, (stack.folder, stem))), stem


def _check_numbers(stack: _Stack) -> None:
    """Raise unless the numbers run without a gap or a repetition."""
    if not stack.numbers:
        return
    steps = np.diff(stack.numbers)
    where = "/".join(filter(None, (stack.folder, f"{stack.stem}.{stack.kind}")))
    if (steps == 0).any():
        k = int(np.flatnonzero(steps == 0)[0])
        raise SourceError(
            f"two pictures of {where} carry the number {stack.numbers[k]}",
            got=f"{stack.files[k].path} and {stack.files[k + 1].path}",
            code="duplicate-slices",
        )
    if (steps == 1).all():
        return
    # Even steps are no proof: two unrelated pictures have them too.
    present = set(stack.numbers)
    missing = [n for n in range(stack.numbers[0], stack.numbers[-1]) if n not in present][:10]
    raise SourceError(
        f"the numbering of {where} has gaps",
        got=f"{len(stack.files)} pictures from {stack.numbers[0]} to {stack.numbers[-1]}",
        expected=f"also {', '.join(map(str, missing))}",
        hint="add the missing pictures, or number them anew if none is missing",
        code="missing-slices",
        missing=missing,
    )


def _check_equal(files: Sequence[File]) -> None:
    for file in files[1:]:
        if file.kind != files[0].kind:
            raise SourceError(
                f"{file.path} differs from the pictures before it",
                got=file.describe(),
                expected=files[0].describe(),
                hint="pictures of one volume need one size and one type",
                code="unequal-pictures",
            )


def _grid(file: File, layout: _Layout) -> Grid:
    """Spacing where a multi-page file states it for all its axes, else unit steps of an unknown unit."""
    stated: Mapping[str, float] = file.spacing_um if isinstance(file, Tiff) else {}
    spatial = [a for a in layout.axes if a in "zyx"]
    if not all(a in stated for a in spatial):
        return Grid.regular(layout.axes, layout.shape, frame="LOCAL")
    spacing = [stated[a] for a in spatial]
    return Grid.regular(layout.axes, layout.shape, spacing=spacing, frame="LOCAL", unit="um")


def _spacing_mm(grid: Grid) -> tuple[float, ...] | None:
    return tuple(s / 1000 for s in grid.spacing) if grid.unit == "um" else None


def _attributes(file: File) -> dict[str, float | int | str]:
    if not isinstance(file, Tiff):
        return {}
    timed = {"t_spacing_s": round(file.t_spacing_s, 9)} if "t" in file.axes and file.t_spacing_s else {}
    return {"PhotometricInterpretation": file.photometric, **timed}


def _warnings(files: Sequence[File]) -> tuple[str, ...]:
    found = []
    turned = sum(isinstance(f, Picture) and f.orientation != 1 for f in files)
    if turned:
        found.append(f"{turned} pictures were turned upright as their EXIF orientation says")
    if isinstance(files[0], Tiff) and files[0].photometric == "MINISWHITE":
        found.append("MINISWHITE: the stored values are kept, so high values are dark")
    return tuple(found)
