"""The segments that 3D Slicer describes in the header of a ``.seg.nrrd``: names of values, in one or more layers.

Keys as its storage node writes and reads them (vtkMRMLSegmentationStorageNode): segments that overlap lie in layers
of their own, along an axis of the kind list. The file may be cropped to what is segmented; its origin says where.
"""

from __future__ import annotations

import re

from ndvol.formats.itk_header import Text

_KEY = re.compile(r"Segment(\d{1,6})_(ID|Name|LabelValue|Layer)")


def segment_layers(text: Text, count: int) -> tuple[dict[int, str], ...]:
    """Value -> name of the segment for each of `count` layers; empty when the header describes no segments.

    Raises
    ------
    SourceError : code ``bad-segments`` where two segments share a value and layer, or a number makes no sense.
    """
    numbers = sorted({int(key[1]) for key in map(_KEY.fullmatch, text.pairs) if key})
    layers: list[dict[int, str]] = [{} for _ in range(count)] if numbers else []
    for number in numbers:
        # Older versions wrote one layer per segment, with the value 1, and said neither.
        layer = _number(text, number, "Layer", 0 if count == 1 else number)
        value = _number(text, number, "LabelValue", 1)
        if layer >= count or value < 1 or value in layers[layer]:
            raise text.fault(
                "its segments contradict each other or the voxels",
                f"segment {number} with value {value} in layer {layer}",
                expected=f"values from 1 on, each once per layer, and layers 0 to {count - 1}",
                hint="save the segmentation again in 3D Slicer",
                code="bad-segments",
            )
        names = (text.pairs.get(f"Segment{number}_{key}", "") for key in ("Name", "ID"))
        layers[layer][value] = next((name for name in names if name.strip()), f"segment {value}")
    return tuple(layers)


def _number(text: Text, number: int, key: str, default: int) -> int:
    stated = text.pairs.get(f"Segment{number}_{key}", str(default)).strip()
    if not re.fullmatch(r"\d{1,9}", stated):
        raise text.fault(f"Segment{number}_{key} is no number", repr(stated[:80]), code="bad-segments")
    return int(stated)


def is_segmentation(path: str) -> bool:
    """By suffix: 3D Slicer calls the segmentation of ``x.nrrd`` ``x.seg.nrrd``."""
    return path.lower().endswith((".seg.nrrd", ".seg.nhdr"))
