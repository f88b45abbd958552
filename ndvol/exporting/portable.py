"""Portable HDF5 out: files that ITK, 3D Slicer, VTK and ParaView open directly."""

from __future__ import annotations

from pathlib import Path

from ndvol.catalog import Catalog
from ndvol.exporting.cases import Refused, as_source, each_case, in_mm, put_json
from ndvol.interop import plain_array
from ndvol.store import write_portable
from ndvol.volumes import ArraySource, Case, Volume


def export_portable(catalog: Catalog, folder: str | Path, *, progress: bool = False) -> Refused:
    """Write ``<case>/images/<name>.hdf``, ``<case>/labels/<name>.hdf`` and beside it its names as JSON.

    ITK and VTK read one volume of a file, so each has its own; the suffix is one that both know. Axes and voxels are as
    the source had them, and the world is LPS mm, as in ITK, wherever the volume's is; oblique and sheared grids are
    kept. bool becomes uint8 and float16 float32, since ITK has neither.

    Returns
    -------
    the cases that could not be written, with the reason.

    Raises
    ------
    StoreError : when `folder` is not empty, or cannot be written.
    """

    def write(name: str, case: Case, root: Path) -> None:
        for image in case.images.values():
            _write(root / name / "images" / f"{image.name}.hdf", image)
        for label in case.labels.values():
            path = root / name / "labels" / f"{label.name}.hdf"
            _write(path, label)
            put_json(path.with_suffix(".json"), {str(v): n for v, n in label.categories.items()})

    return each_case(catalog, Path(folder), write, progress)


def _write(path: Path, volume: Volume) -> None:
    turned = as_source(volume)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_portable(path, Volume(volume.name, in_mm(turned.grid), ArraySource(plain_array(turned))))
