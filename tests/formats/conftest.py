"""Sources for the readers, written as real files from arrays whose every value is known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from ndvol.formats import DEFAULT_READING, Reader, ReadOptions, Scan, VolumeData
from ndvol.geometry import Grid

sys.path.insert(0, str(Path(__file__).parent))  # makes `structure_files` importable

SHAPE = (6, 5, 4)


@pytest.fixture
def oblique() -> Grid:
    """A grid that no axis-aligned shortcut survives."""
    a, b = 0.3, -0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ tip)[:, ::-1] @ np.diag([2.5, 0.75, 0.5])
    affine[:3, 3] = (-100.25, 40.5, -733.125)
    return Grid("zyx", SHAPE, affine)


@pytest.fixture
def voxels() -> np.ndarray:
    """Stored values that differ at every voxel, so that no reordering goes unseen."""
    return (np.arange(np.prod(SHAPE), dtype=np.int16) * 7 - 300).reshape(SHAPE)


@pytest.fixture
def hdf5_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 files are scanned here and not in a process of their own, which takes a second to start."""
    monkeypatch.setattr("ndvol.formats.hdf5_files.in_child", lambda work, items: map(work, items))


@pytest.fixture
def scan() -> Callable[..., Scan]:
    def run(reader: Reader, root: Path, options: ReadOptions = DEFAULT_READING) -> Scan:
        files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
        return reader.scan(root, files, options)

    return run


@pytest.fixture
def read_one(scan: Callable[[Reader, Path], Scan]) -> Callable[..., VolumeData]:
    def run(reader: Reader, root: Path, **options: Any) -> VolumeData:
        found = scan(reader, root)
        assert len(found.series) == 1, found.verdicts
        return reader.read(root, found.series[0], **options)

    return run


@pytest.fixture
def refusal(scan: Callable[[Reader, Path], Scan]) -> Callable[[Reader, Path], tuple[str, str]]:
    """Code and message of the one verdict on a tree that gives no series."""

    def run(reader: Reader, root: Path) -> tuple[str, str]:
        found = scan(reader, root)
        assert not found.series
        assert [v.status for v in found.verdicts] == ["refused"]
        return found.verdicts[0].code, found.verdicts[0].message

    return run


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change elements of a DICOM file in place; None deletes one."""

    def run(file: Path, **changes: Any) -> None:
        dataset = pydicom.dcmread(file)
        for keyword, value in changes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(file)

    return run
