"""The picture of the layers in the design, held as a test: imports only go down."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "ndvol"
RANKS = {
    **dict.fromkeys(["errors", "processes", "tables", "version"], 0),
    **dict.fromkeys(["geometry", "markup"], 1),
    **dict.fromkeys(["box_index", "categories", "display", "label_index", "verdict"], 2),
    **dict.fromkeys(["hierarchy", "volumes"], 3),
    **dict.fromkeys(["levels", "sampling"], 4),
    **dict.fromkeys(["batches", "hdf5"], 5),
    **dict.fromkeys(["formats", "catalog", "store"], 6),
    **dict.fromkeys(["backends", "selection"], 7),
    **dict.fromkeys(["interop", "opened", "opening"], 8),
    "reading": 9,
    **dict.fromkeys(["coco", "importing", "sampler", "stitching"], 10),
    **dict.fromkeys(["exporting", "grid_sampler", "tensors"], 11),
    **dict.fromkeys(["commands", "demo", "facts", "outcomes", "sheet", "torch", "toy"], 12),
    **dict.fromkeys(
        ["bench", "completion", "doctor", "export_command", "import_command", "monai", "nnunet", "report"], 13
    ),
    **dict.fromkeys(["sample_command", "torchio", "viewer"], 13),
    **dict.fromkeys(["cli", "report_command", "view_command"], 14),
    "__main__": 15,
}
FACE_RANK = 12
"""`ndvol/__init__.py` leads to every unit but the command line, so who imports from it reaches that high."""
PURE_RANK = 4
"""Up to here numpy, the standard library and ndvol itself are all that is imported."""
OWNERS = {
    # One way to open HDF5, for our files in the store and those of others in the formats.
    "h5py": ("hdf5", "store"),
    "pydicom": ("formats",),
    "highdicom": ("formats",),
    # Arrays in memory go over to the other libraries in interop; files are read in the formats only.
    "SimpleITK": ("formats", "interop"),
    "nibabel": ("formats", "interop"),
    "dask": ("interop",),
    "xarray": ("coco", "interop"),
    "kwcoco": ("catalog",),
    "kwimage": ("coco",),
    "torch": ("batches", "monai", "tensors", "torch", "torchio"),
    "monai": ("monai",),
    "nnunetv2": ("nnunet",),
    "torchio": ("torchio",),
}


def imported_modules(source: str, package: str) -> set[str]:
    """Absolute names of all modules that `source`, a module of `package`, imports, wherever in the code."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from ndvol import x` may name a unit, so the name belongs to the module.
            found |= {f"{base}.{alias.name}" for alias in node.names} if base == "ndvol" else {base}
    return found


def violations(source: str, unit: str, package: str = "ndvol") -> list[str]:
    """What the top-level `unit` imports that its rank forbids."""
    faults = []
    for name in sorted(imported_modules(source, package)):
        top, _, rest = name.partition(".")
        if top == "ndvol":
            other = rest.partition(".")[0]
            rank = RANKS.get(other, FACE_RANK)
            if other != unit and rank >= RANKS[unit]:
                faults.append(f"{unit} (rank {RANKS[unit]}) imports {name} (rank {rank})")
        elif unit not in OWNERS.get(top, (unit,)):
            faults.append(f"{unit} imports {top}, which belongs to {' and '.join(OWNERS[top])}")
        elif RANKS[unit] <= PURE_RANK and top != "numpy" and top not in sys.stdlib_module_names:
            faults.append(f"{unit} is pure and imports {top}")
    return faults


def units() -> dict[str, list[Path]]:
    """The files of each top-level module or package, without the lazy ``ndvol/__init__.py``."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        if path != ROOT / "__init__.py":
            found.setdefault(path.relative_to(ROOT).parts[0].removesuffix(".py"), []).append(path)
    return found


def test_every_unit_has_a_rank() -> None:
    assert set(units()) - set(RANKS) == set(), "add the new unit to RANKS, and to the picture in the design"


@pytest.mark.parametrize("unit", sorted(units()))
def test_imports_go_down(unit: str) -> None:
    assert [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in units()[unit]
        for fault in violations(path.read_text(), unit, ".".join(path.relative_to(ROOT.parent).parts[:-1]))
    ] == []


@pytest.mark.parametrize(
    ("unit", "source", "fault"),
    [
        ("geometry", "from ndvol.store import writer", "geometry (rank 1) imports ndvol.store (rank 6)"),
        ("store", "def f():\n    import ndvol.formats", "store (rank 6) imports ndvol.formats (rank 6)"),
        ("volumes", "from ndvol import sampler", "volumes (rank 3) imports ndvol.sampler (rank 10)"),
        ("sampling", "from ..catalog import Catalog", "sampling (rank 4) imports ndvol.catalog (rank 6)"),
        ("catalog", "from .. import opening", "catalog (rank 6) imports ndvol.opening (rank 8)"),
        (
            "coco",
            "import torch.utils.data",
            "coco imports torch, which belongs to batches and monai and tensors and torch and torchio",
        ),
        ("cli", "import h5py", "cli imports h5py, which belongs to hdf5 and store"),
        ("formats", "import h5py", "formats imports h5py, which belongs to hdf5 and store"),
        ("store", "from ndvol import Window", "store (rank 6) imports ndvol.Window (rank 12)"),
        ("store", "import ndvol", "store (rank 6) imports ndvol (rank 12)"),
        ("sampling", "import scipy.ndimage", "sampling is pure and imports scipy"),
    ],
)
def test_a_forbidden_import_is_seen(unit: str, source: str, fault: str) -> None:
    assert violations(source, unit, f"ndvol.{unit}") == [fault]


def test_allowed_imports_pass() -> None:
    source = (
        "import os.path, numpy, h5py, xxhash\nfrom ndvol.store.codec import x\nfrom . import y\nimport ndvol.volumes"
    )
    assert violations(source, "store", "ndvol.store") == []
