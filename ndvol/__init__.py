"""ndvol: volumes from DICOM, NIfTI and picture series in HDF5, and the windows that training wants of them.

>>> import ndvol                                                    # doctest: +SKIP
>>> catalog = ndvol.import_tree("raw/", "bundle/")                  # doctest: +SKIP
>>> sampler = ndvol.VolumeSampler(catalog, window=(96, 96, 96),
...                               strategy=ndvol.Positive("lesion"))  # doctest: +SKIP
>>> sampler[7].images["CT"].shape                                   # doctest: +SKIP
(96, 96, 96)

Nothing heavy is imported before it is used, so that ``import ndvol`` and ``ndvol --version`` answer at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ndvol.version import __version__

if TYPE_CHECKING:
    from ndvol import demo, errors, geometry, hierarchy, interop, monai, nnunet, torch, torchio, toy
    from ndvol.backends import open_volume
    from ndvol.catalog import Catalog
    from ndvol.categories import CategoryTree
    from ndvol.coco import CocoSampler
    from ndvol.errors import NdvolError
    from ndvol.exporting import export_patches, export_slices
    from ndvol.geometry import Clip, Grid, Window
    from ndvol.grid_sampler import GridSample, GridSampler
    from ndvol.importing import ImportOptions, ImportPlan, import_tree, plan_import, read_categories
    from ndvol.opening import open_catalog as open
    from ndvol.sampler import Sample, VolumeSampler
    from ndvol.sampling import Mix, Negative, Positive, Reading, Schedule, Sliding, Target, Uniform
    from ndvol.stitching import Stitcher
    from ndvol.store import open_case, open_hdf5
    from ndvol.volumes import Case, LabelVolume, Volume

_HOMES = {
    "ndvol.backends": ("open_volume",),
    "ndvol.catalog": ("Catalog",),
    "ndvol.categories": ("CategoryTree",),
    "ndvol.coco": ("CocoSampler",),
    "ndvol.errors": ("NdvolError",),
    "ndvol.exporting": ("export_patches", "export_slices"),
    "ndvol.geometry": ("Clip", "Grid", "Window"),
    "ndvol.grid_sampler": ("GridSample", "GridSampler"),
    "ndvol.importing": ("ImportOptions", "ImportPlan", "import_tree", "plan_import", "read_categories"),
    "ndvol.sampler": ("Sample", "VolumeSampler"),
    "ndvol.sampling": ("Mix", "Negative", "Positive", "Reading", "Schedule", "Sliding", "Target", "Uniform"),
    "ndvol.stitching": ("Stitcher",),
    "ndvol.store": ("open_case", "open_hdf5"),
    "ndvol.volumes": ("Case", "LabelVolume", "Volume"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_SUBMODULES = ("demo", "errors", "geometry", "hierarchy", "interop", "monai", "nnunet", "torch", "torchio", "toy")

__all__ = [
    "Case",
    "Catalog",
    "CategoryTree",
    "Clip",
    "CocoSampler",
    "Grid",
    "GridSample",
    "GridSampler",
    "ImportOptions",
    "ImportPlan",
    "LabelVolume",
    "Mix",
    "NdvolError",
    "Negative",
    "Positive",
    "Reading",
    "Sample",
    "Schedule",
    "Sliding",
    "Stitcher",
    "Target",
    "Uniform",
    "Volume",
    "VolumeSampler",
    "Window",
    "__version__",
    "demo",
    "errors",
    "export_patches",
    "export_slices",
    "geometry",
    "hierarchy",
    "import_tree",
    "interop",
    "monai",
    "nnunet",
    "open",
    "open_case",
    "open_hdf5",
    "open_volume",
    "plan_import",
    "read_categories",
    "torch",
    "torchio",
    "toy",
]


def __getattr__(name: str) -> Any:
    if name == "open":
        return import_module("ndvol.opening").open_catalog
    if name in _SUBMODULES:
        return import_module(f"ndvol.{name}")
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'ndvol' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
