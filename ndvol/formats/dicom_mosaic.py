"""Mosaics: all slices of a volume tiled in one frame, by Siemens and United Imaging."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats.dicom_csa import read_csa
from ndvol.formats.dicom_deflate import open_dicom
from ndvol.formats.dicom_elements import plain
from ndvol.formats.dicom_headers import UIH_FRAMES, Header
from ndvol.formats.faults import reason
from ndvol.geometry.planes import ORIENTATION_TOLERANCE

_CSA_CREATOR = "SIEMENS CSA HEADER"
_BLOCKS = range(0x10, 0x14)
"""Private blocks (PS3.5 7.8.1) of group 0029 that are searched for the CSA header; scanners use the first."""
_UIH_TILES = 0x00651050
MAX_TILES = 2**12


def mosaic_tiles(root: Path, header: Header) -> tuple[Header, ...]:
    """The slices of a Siemens mosaic, each with the position of its own first pixel.

    The mosaic is a square of ``ceil(sqrt(n))`` tiles a side. ImagePositionPatient is that of a single slice as
    large as the mosaic around the same centre, so the corner of a tile lies half the difference of the sizes
    further in. Slices follow each other by SpacingBetweenSlices along the SliceNormalVector of the CSA header.

    Raises
    ------
    SourceError : code ``mosaic`` when the number of tiles, their spacing or the geometry is missing or impossible.
    """
    csa, spacing = _siemens(root, header)
    texts = csa.get("NumberOfImagesInMosaic", ())
    if not texts or not texts[0].isdigit():
        raise _refused(header, "the number of tiles is missing", "NumberOfImagesInMosaic in the CSA header (0029,1010)")
    side = math.ceil(math.sqrt(int(texts[0])))
    corners, size = _corners(header, int(texts[0]), side, side)
    if not header.has_geometry:
        return (header,)  # the caller refuses what nothing places
    if spacing is None or not 0 < spacing < math.inf:
        raise _refused(header, f"SpacingBetweenSlices is {spacing}", "the distance between slices in mm")
    cosines = np.reshape(_required(header, "ImageOrientationPatient", 6), (2, 3))
    rows_mm, columns_mm = _required(header, "PixelSpacing", 2)
    shift = (np.subtract(header.size, size) / 2) * (rows_mm, columns_mm)
    origin = np.array(_required(header, "ImagePositionPatient", 3)) + shift[1] * cosines[0] + shift[0] * cosines[1]
    step = spacing * _normal(header, csa, cosines)
    return _tiles(header, corners, size, [origin + k * step for k in range(len(corners))])


def grid_tiles(root: Path, header: Header) -> tuple[Header, ...]:
    """The slices of a United Imaging grid, each placed by its own item of MRVFrameSequence (0065,1051).

    Raises
    ------
    SourceError : code ``mosaic`` when the items are not one position per tile.
    """
    try:
        dataset = _read(root, header, [_UIH_TILES, UIH_FRAMES])
        count = int(float(dataset[_UIH_TILES].value))
        positions = [plain(item, "ImagePositionPatient") for item in dataset[UIH_FRAMES].value]
    except Exception as error:  # pydicom raises whatever the bytes provoke
        raise _refused(header, reason(error, root), "MRVFrameSequence (0065,1051)") from error
    if count != len(positions) or not all(isinstance(p, tuple) and len(p) == 3 for p in positions):
        raise _refused(header, f"{len(positions)} positions for {count} tiles", "one position per tile")
    columns = math.ceil(math.sqrt(count))
    corners, size = _corners(header, count, math.ceil(count / columns), columns)
    return _tiles(header, corners, size, positions)


def _read(root: Path, header: Header, tags: Sequence[Any]) -> pydicom.Dataset:
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        with open_dicom(root / header.path, header.path) as source:
            return pydicom.dcmread(source, stop_before_pixels=True, specific_tags=list(tags), force=True)


def _siemens(root: Path, header: Header) -> tuple[dict[str, tuple[str, ...]], float | None]:
    """The CSA image header and SpacingBetweenSlices."""
    tags = [(0x0029 << 16) + e for block in _BLOCKS for e in (block, (block << 8) + 0x10)]
    try:
        dataset = _read(root, header, [*tags, "SpacingBetweenSlices"])
        csa: dict[str, tuple[str, ...]] = {}
        for creator, element in zip(tags[::2], tags[1::2], strict=True):
            if creator in dataset and str(dataset[creator].value).strip() == _CSA_CREATOR and element in dataset:
                csa |= read_csa(bytes(dataset[element].value or b""))
        spacing = plain(dataset, "SpacingBetweenSlices")
        return csa, None if spacing is None else float(spacing)
    except Exception as error:  # pydicom raises whatever the bytes provoke
        raise _refused(header, reason(error, root), "a CSA header (0029,1010)") from error


def _corners(header: Header, count: int, down: int, across: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """First row and column of each tile, and the size of a tile."""
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if not 0 < count <= MAX_TILES or rows % down or columns % across:
        raise _refused(header, f"{rows} rows x {columns} columns for {count} tiles", f"{down} x {across} equal tiles")
    size = (rows // down, columns // across)
    return [(k // across * size[0], k % across * size[1]) for k in range(count)], size


def _normal(header: Header, csa: dict[str, tuple[str, ...]], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction from slice to slice: the CSA header's, or the cross product of row and column."""
    cross = np.cross(*cosines)
    try:
        stated = np.array([float(v) for v in csa.get("SliceNormalVector", ())])
    except ValueError:
        stated = np.empty(0)
    if stated.shape != (3,):
        return np.asarray(cross, np.float64)
    if not abs(abs(float(stated @ cross)) - 1) <= ORIENTATION_TOLERANCE:
        raise _refused(header, f"SliceNormalVector {stated.tolist()}", f"parallel to {cross.round(5).tolist()}")
    return np.asarray(cross if stated @ cross > 0 else -cross, np.float64)


def _tiles(
    header: Header, corners: Sequence[tuple[int, int]], size: tuple[int, int], positions: Sequence[Any]
) -> tuple[Header, ...]:
    whole = header.size
    return tuple(
        replace(
            header,
            values={
                **header.values,
                **{"Rows": size[0], "Columns": size[1], "ImagePositionPatient": tuple(map(float, position))},
            },
            tile=corner,
            frame_size=whole,
        )
        for corner, position in zip(corners, positions, strict=True)
    )


def _required(header: Header, keyword: str, count: int) -> tuple[float, ...]:
    found = header.numbers(keyword, count)
    assert found is not None
    return found


def _refused(header: Header, got: str, expected: str) -> SourceError:
    return SourceError(
        f"the tiles of the mosaic {header.path} cannot be placed",
        got=got,
        expected=expected,
        hint="export the series without removing private elements, or convert it to NIfTI (dcm2niix)",
        code="mosaic",
    )
