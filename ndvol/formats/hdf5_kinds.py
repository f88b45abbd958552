"""HDF5 files whose layout is known: fastMRI's reconstructions, ITK's images, and BigDataViewer's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats.bulk import DEFLATE_RATIO, truncated
from ndvol.formats.faults import reason
from ndvol.formats.hdf5_datasets import MAX_TEXT, UNKNOWN, Part, part_of, text
from ndvol.formats.itk_header import MM_PER_UNIT, placed_grid
from ndvol.geometry import Grid
from ndvol.hdf5 import get_dataset

_RECONSTRUCTIONS = ("reconstruction_rss", "reconstruction_esc")
_TIME = re.compile(r"t(\d{5,})")
_SETUP = re.compile(r"s(\d{2,})")


def is_fastmri(file: Any) -> bool:
    """k-space or its reconstruction at the top (fastMRI, arXiv:1811.08839, section 4.4)."""
    return any(name in file for name in (*_RECONSTRUCTIONS, "kspace"))


def fastmri_parts(path: str, file: Any, size: int) -> list[Part]:
    """The reconstructions of a fastMRI file: (slices, rows, columns).

    Raises
    ------
    SourceError : code ``kspace`` when there is no reconstruction.
    """
    names = [name for name in _RECONSTRUCTIONS if name in file]
    if not names:
        raise SourceError(
            f"{path} holds k-space and no image",
            expected=" or ".join(_RECONSTRUCTIONS),
            hint="reconstruct it first",
            code="kspace",
        )
    parts = [replace(part_of(path, get_dataset(file, name), size), modality="MR", warnings=()) for name in names]
    recon = _recon_space(file)
    parts = [_with_field_of_view(part, recon) for part in parts]
    # Several are made of the same scan.
    several = [replace(p, name=n, of_case=True) for p, n in zip(parts, names, strict=True)]
    return parts if len(parts) == 1 else several


def _recon_space(file: Any) -> dict[str, tuple[float, float, float]]:
    """matrixSize and fieldOfView_mm (x, y, z) of the reconstruction, from the ISMRMRD header; empty without one."""
    if "ismrmrd_header" not in file:
        return {}
    header = get_dataset(file, "ismrmrd_header")
    xml = text(header[()]) if header.shape in ((), (1,)) and header.dtype.itemsize <= MAX_TEXT else ""
    space = ElementTree.fromstring(xml[:MAX_TEXT]).find("{*}encoding/{*}reconSpace") if xml else None
    found = {}
    for name in ("matrixSize", "fieldOfView_mm"):
        node = space.find(f"{{*}}{name}") if space is not None else None
        values = [float(node.findtext(f"{{*}}{a}") or "nan") for a in "xyz"] if node is not None else []
        if len(values) == 3 and np.isfinite(values).all() and min(values) > 0:
            found[name] = (values[0], values[1], values[2])
    return found if len(found) == 2 else {}


def _with_field_of_view(part: Part, recon: dict[str, tuple[float, float, float]]) -> Part:
    """With the spacing of the header; the distance of 2-D slices is not in it, only their thickness."""
    # The rows run along the readout, which is x of the header.
    if part.grid.axes != "zyx" or not recon or part.shape[1:] != recon["matrixSize"][:2]:
        return part.placed(None, UNKNOWN)
    steps = [f / n for f, n in zip(recon["fieldOfView_mm"], recon["matrixSize"], strict=True)]
    if recon["matrixSize"][2] > 1 and part.shape[0] == recon["matrixSize"][2]:
        return part.placed((steps[2], steps[0], steps[1]))
    facts: dict[str, float | int | str] = {"PixelSpacing": json.dumps(steps[:2])}
    if recon["matrixSize"][2] == 1:
        facts["SliceThickness"] = steps[2]
    note = f"the distance of the slices is not stated, only the size of their pixels; {UNKNOWN}"
    return replace(part.placed(None, note), attributes=facts)


def is_itk(file: Any) -> bool:
    """An image as ITK writes it (itkHDF5ImageIO)."""
    return "ITKImage" in file


def itk_part(path: str, file: Any, size: int) -> Part:
    """The image of an ITK file. ITK's world is LPS mm, and the rows of its directions are the axes', x first.

    Raises
    ------
    SourceError : code ``header`` for geometry that makes no sense, ``axes`` for axes that are not supported.
    """
    voxels = get_dataset(file, "ITKImage/0/VoxelData")
    directions, origin, spacing = (_itk_numbers(file, name) for name in ("Directions", "Origin", "Spacing"))
    n = len(origin)
    if directions.shape != (n, n) or spacing.shape != (n,) or not (spacing > 0).all():
        raise SourceError(f"the geometry of {path} makes no sense", got=f"{n} axes, spacing {spacing}", code="header")
    if n not in (2, 3, 4) or voxels.ndim - n not in (0, 1) or directions[3:, :3].any() or directions[:3, 3:].any():
        raise SourceError(
            f"{path} has axes that are not supported",
            got=f"{n} for voxels {voxels.shape}",
            expected="x, y; x, y, z; or x, y, z and time, each with components or without",
            code="axes",
        )
    part = part_of(path, voxels, size, "tzyx"[-n:] + "c" * (voxels.ndim - n))
    spatial, frame = min(n, 3), "LOCAL" if n == 2 else "LPS"
    steps = (directions * spacing[:, None])[:spatial, :spatial]
    grid = placed_grid(part.grid.axes, part.grid.shape, steps, origin[:spatial], frame)
    return replace(part, grid=grid, warnings=())


def _itk_numbers(file: Any, name: str) -> NDArray[np.float64]:
    dataset = get_dataset(file, f"ITKImage/0/{name}")
    if dataset.dtype.kind != "f" or not 1 <= dataset.size <= 16:
        raise SourceError(f"{name} of an ITK image is not a few numbers", got=dataset.shape, code="header")
    return np.asarray(dataset[...], np.float64)


def is_bdv(file: Any) -> bool:
    """Groups per time and setup, and the resolutions of a setup."""
    return "s00" in file and any(map(_TIME.fullmatch, file)) and "resolutions" in file["s00"]


def bdv_parts(root: Path, path: str, file: Any, size: int) -> list[Part]:
    """One volume per setup (channel, angle, tile …) of a BigDataViewer file, over its times; the finest level.

    Cells of type int16 hold uint16: BigDataViewer reads shorts and takes them as unsigned
    (``bdv.img.hdf5.Hdf5ImageLoader``).

    Raises
    ------
    SourceError : codes ``missing-times`` and ``unequal-times``.
    """
    setups = sorted((name for name in file if _SETUP.fullmatch(name)), key=lambda name: int(name[1:]))
    times = sorted((name for name in file if _TIME.fullmatch(name)), key=lambda name: int(name[1:]))
    sidecar = _Sidecar.beside(root, path)
    parts = []
    for setup in setups:
        found = [f"{time}/{setup}/0/cells" for time in times if f"{time}/{setup}/0/cells" in file]
        if len(found) < len(times):
            raise SourceError(
                f"{path} lacks cells of setup {setup}",
                got=f"{len(found)} of {len(times)} times",
                hint="export all times of all setups",
                code="missing-times",
            )
        parts.append(
            sidecar.placed(_bdv_part(path, [get_dataset(file, name) for name in found], size), str(int(setup[1:])))
        )
    return parts if len(parts) == 1 else [replace(p, name=n) for p, n in zip(parts, setups, strict=True)]


def _bdv_part(path: str, cells: list[Any], size: int) -> Part:
    first = part_of(path, cells[0], size)
    if first.letters != "zyx" or any((c.shape, c.dtype) != (cells[0].shape, cells[0].dtype) for c in cells):
        raise SourceError(
            f"the cells of {path} are not one 3-D volume per time",
            got=f"{len({c.shape for c in cells})} shapes, the first {cells[0].shape}",
            code="unequal-times",
        )
    needed = len(cells) * prod(first.shape) * cells[0].dtype.itemsize
    if needed > size * DEFLATE_RATIO:
        raise truncated(path, f"a file of {size} bytes", needed)
    dtype = np.dtype(np.uint16) if first.dtype == np.int16 else first.dtype
    axes, shape = ("zyx", first.shape) if len(cells) == 1 else ("tzyx", (len(cells), *first.shape))
    grid = Grid.regular(axes, shape)
    return replace(first, datasets=tuple(c.name for c in cells), dtype=dtype, grid=grid, warnings=())


@dataclass(frozen=True, slots=True)
class _Sidecar:
    """The XML file beside a BigDataViewer file; without one nothing is known of the spacing."""

    path: str = ""
    tree: ElementTree.Element | None = None
    note: str = ""

    @classmethod
    def beside(cls, root: Path, path: str) -> _Sidecar:
        file = root / (xml := path.rpartition(".")[0] + ".xml")
        if not file.is_file():
            return cls(note="no XML file beside it; ")
        try:
            if file.stat().st_size > MAX_TEXT:
                return cls(note="the XML file beside it is too large; ")
            tree = ElementTree.parse(file).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise SourceError(f"{xml} cannot be read", got=reason(error, root), code="header") from error
        named = (tree.findtext("SequenceDescription/ImageLoader/hdf5") or "").replace("\\", "/").rpartition("/")[2]
        if tree.tag != "SpimData" or named != path.rpartition("/")[2]:
            return cls(note="the XML file beside it is that of another file; ")
        return cls(xml, tree)

    def placed(self, part: Part, setup: str) -> Part:
        """The volume of a setup with its voxel size."""
        if self.tree is None:
            return part.placed(None, self.note + UNKNOWN)
        part = replace(part, files=(self.path,))
        views = self.tree.iterfind("SequenceDescription/ViewSetups/ViewSetup")
        view = next((v for v in views if v.findtext("id") == setup), None)
        moved = _is_moved(self.tree, setup)
        notes = ("the XML file registers the view by more than its voxel size; not applied",) * moved
        unit = (view.findtext("voxelSize/unit") or "") if view is not None else ""
        sizes = [float(s) for s in (view.findtext("voxelSize/size") or "").split()] if view is not None else []
        scale = MM_PER_UNIT.get(unit.strip().lower())
        if scale is None or len(sizes) != 3 or not (min(sizes) > 0 and np.isfinite(sizes).all()):
            return part.placed(None, *notes, UNKNOWN)
        return part.placed([scale * s for s in reversed(sizes)], *notes)


def _is_moved(tree: ElementTree.Element, setup: str) -> bool:
    """Whether a transform of the setup turns, shears or moves it."""
    for view in tree.iterfind("ViewRegistrations/ViewRegistration"):
        if view.get("setup") == setup:
            for node in view.iterfind("ViewTransform/affine"):
                rows = np.array((node.text or "").split(), float).reshape(3, 4)
                if np.count_nonzero(rows) != np.count_nonzero(np.diag(rows)):
                    return True
    return False
