"""NRRD out: every volume in the orientation of its source, label maps as segmentations of 3D Slicer.

The headers are written here: SimpleITK knows no kind for the time axis and takes each column of the affine apart into
a spacing and a direction, which rounds it; pynrrd puts the time of writing into the file.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ndvol.catalog import Catalog
from ndvol.display import category_colour
from ndvol.errors import GridError
from ndvol.exporting.cases import Refused, as_source, each_case, in_mm, put, put_json, source_grid
from ndvol.geometry import Grid
from ndvol.interop import plain_array
from ndvol.volumes import Case, LabelVolume, Volume

Fields = dict[str, str]

MAX_SEGMENT_VALUE = 10**9 - 1
"""3D Slicer keeps the value of a segment in an int, and ndvol reads nine digits of it."""


def export_nrrd(catalog: Catalog, folder: str | Path, *, progress: bool = False) -> Refused:
    """Write ``<case>/images/<name>.nrrd`` and ``<case>/labels/<name>.seg.nrrd``.

    The axes have the order and direction that the source had, and the voxels and the affine are the source's, oblique
    and sheared alike; steps in µm are written in mm, which readers take them for. Label maps over z, y, x name their
    values as segments, with the colours that ndvol draws them in; others are ``<name>.nrrd`` with the names as JSON
    beside it, since 3D Slicer has no segmentations over time or of pictures.

    Returns
    -------
    the cases that NRRD cannot hold, with the reason; nothing of them is written.

    Raises
    ------
    StoreError : when `folder` is not empty, or cannot be written.
    """

    def write(name: str, case: Case, root: Path) -> None:
        places = {volume.name: _place(volume) for volume in (*case.images.values(), *case.labels.values())}
        for image in case.images.values():
            _write(root / name / "images" / f"{image.name}.nrrd", image, places[image.name])
        for label in case.labels.values():
            path, segments = root / name / "labels" / f"{label.name}.nrrd", {}
            if _is_segmentation(label):
                path = path.with_name(f"{label.name}.seg.nrrd")
                segments = _segments(label, catalog.categories.names)
            else:
                put_json(path.with_suffix(".json"), {str(v): n for v, n in label.categories.items()})
            _write(path, label, places[label.name], segments)

    return each_case(catalog, Path(folder), write, progress)


def _write(path: Path, volume: Volume, place: Fields, pairs: Mapping[str, str] = {}) -> None:
    """A NRRD file, the components of a voxel together; gzip without a time, so that equal voxels make equal bytes."""
    array = plain_array(as_source(volume))
    if "c" in volume.axes:
        array = np.moveaxis(array, volume.axes.index("c"), -1)
    stored = array.dtype.newbyteorder("<")
    fields = {
        "type": {"float32": "float", "float64": "double"}.get(array.dtype.name, array.dtype.name),
        "dimension": str(array.ndim),
        "sizes": " ".join(map(str, array.shape[::-1])),
        **place,
        "endian": "little",
        "encoding": "gzip",
    }
    lines = ["NRRD0004", *(f"{k}: {v}" for k, v in fields.items()), *(f"{k}:={_escaped(v)}" for k, v in pairs.items())]
    head = "\n".join(lines) + "\n\n"
    put(path, head.encode() + gzip.compress(np.ascontiguousarray(array, stored).tobytes(), 6, mtime=0))


def _place(volume: Volume) -> Fields:
    """The fields that say what the axes are, and where the voxels lie."""
    grid = source_grid(volume)
    # NRRD counts the fastest axis first; ITK wants the components there.
    axes = "c" * ("c" in grid.axes) + grid.axes[::-1].replace("c", "")
    kinds = {"kinds": " ".join({"c": "list", "t": "time"}.get(a, "domain") for a in axes)}
    if grid.unit == "unknown":
        if not np.array_equal(grid.affine, Grid.regular(grid.axes, grid.shape).affine):
            raise GridError(
                f"the unit of the steps of volume {volume.name!r} is not known, and NRRD has them in mm",
                got=grid.affine.tolist(),
            )
        return kinds
    n, time = len(grid.spatial), "t" in axes
    columns = in_mm(grid).affine[:-1]
    vectors = {a: [*columns[:, k], *[0.0] * time] for k, a in enumerate(grid.axes[i] for i in grid.spatial)}
    vectors["t"] = [*[0.0] * n, 1.0]
    space = "left-posterior-superior" + "-time" * time
    return {
        **({"space": space} if grid.frame == "LPS" else {"space dimension": str(n + time)}),
        "space directions": " ".join("none" if a == "c" else _vector(vectors[a]) for a in axes),
        **kinds,
        "space origin": _vector([*columns[:, -1], *[0.0] * time]),
    }


def _vector(numbers: Sequence[float]) -> str:
    """The shortest decimals that read back as the same float64 numbers."""
    return f"({','.join(repr(float(number)) for number in numbers)})"


def _is_segmentation(label: LabelVolume) -> bool:
    values = label.categories
    return label.axes == "zyx" and label.grid.unit != "unknown" and all(0 < v <= MAX_SEGMENT_VALUE for v in values)


def _segments(label: LabelVolume, names: Sequence[str]) -> dict[str, str]:
    """The key/value pairs of 3D Slicer (vtkMRMLSegmentationStorageNode) for segments in one layer."""
    extent = " ".join(f"0 {n - 1}" for n in source_grid(label).shape[::-1])
    pairs = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        # Older versions know the second key, newer ones the first.
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for k, (value, name) in enumerate(sorted(label.categories.items())):
        colour = " ".join(f"{channel / 255:.6g}" for channel in category_colour(name, names))
        facts = {
            "ID": f"Segment_{value}",
            "Name": name,
            "NameAutoGenerated": "0",
            "Color": colour,
            "ColorAutoGenerated": "1",
            "Extent": extent,
            "LabelValue": str(value),
            "Layer": "0",
        }
        pairs |= {f"Segment{k}_{key}": fact for key, fact in facts.items()}
    return pairs


def _escaped(text: str) -> str:
    """The value of a key/value pair (teem, nrrd/format, section 6): one line."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")
