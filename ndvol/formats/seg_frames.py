"""The frames of a DICOM Segmentation (PS3.3 C.8.20.2): their bits, values and functional groups."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from ndvol.errors import SourceError
from ndvol.formats.dicom_headers import MAX_PLANE_PIXELS
from ndvol.formats.layers import clean_name
from ndvol.formats.structures import items, numbers

SEG, LABELMAP_SEG = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
"""SOP classes Segmentation Storage and Label Map Segmentation Storage."""

FRACTION = 0.5
"""A fractional voxel belongs to a segment from this share of MaximumFractionalValue (PS3.3 C.8.20.2.3) on."""

_BITS = {"BINARY": (1, 8), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of a SEG and what their values mean.

    Attributes
    ----------
    kind : SegmentationType: ``BINARY``, ``FRACTIONAL`` or ``LABELMAP``.
    threshold : from which stored value on a voxel of a binary or fractional frame belongs to the segment.
    background : the value of a label map that stands for no segment.
    """

    dataset: pydicom.Dataset
    path: str
    kind: str
    shape: tuple[int, int]
    count: int
    bits: int
    threshold: float
    background: int
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, dataset: pydicom.Dataset, path: str) -> Frames:
        """The frames of `dataset`, proved to be all there."""
        kind = str(dataset.get("SegmentationType") or ("LABELMAP" if dataset.SOPClassUID == LABELMAP_SEG else ""))
        header = {k: int(dataset.get(k) or 0) for k in ("Rows", "Columns", "BitsAllocated")}
        rows, columns, bits = header.values()
        count, described = (
            int(dataset.get("NumberOfFrames") or 1),
            len(items(dataset, "PerFrameFunctionalGroupsSequence")),
        )
        samples = int(dataset.get("SamplesPerPixel") or 1)
        plain = bits in _BITS.get(kind, ()) and samples == 1 and not dataset.get("PixelRepresentation")
        if not plain or not 0 < rows * columns <= MAX_PLANE_PIXELS or count < 1:
            raise SourceError(
                f"{path} is no segmentation that can be read",
                got=f"SegmentationType {kind!r}, {header}, NumberOfFrames {count}, SamplesPerPixel {samples}",
                expected="BINARY with 1 bit, FRACTIONAL with 8, or LABELMAP with 8 or 16, unsigned",
                code="unsupported-seg",
            )
        if described != count:
            raise SourceError(
                f"{path} does not say where its frames lie",
                got=f"{described} items in PerFrameFunctionalGroupsSequence",
                expected=f"{count}, one per frame (tiled slides are not volumes)",
                code="no-geometry",
            )
        _check_complete(dataset, path, count * rows * columns * bits)
        threshold, notes = _threshold(dataset, kind, path)
        background = int(dataset.get("PixelPaddingValue") or 0)
        return cls(dataset, path, kind, (rows, columns), count, bits, threshold, background, notes)

    def stored(self, k: int) -> NDArray[Any]:
        """The stored values of frame `k`, (rows, columns)."""
        if self.bits > 1 or self.dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            # GDCM ends the process on some RLE; pydicom's own decoder raises.
            plugin = "pydicom" if self.dataset.file_meta.TransferSyntaxUID == RLELossless else ""
            frame = np.asarray(pixel_array(self.dataset, index=k, decoding_plugin=plugin))
            if frame.shape != self.shape:
                raise SourceError(
                    f"frame {k} of {self.path} has another size",
                    got=frame.shape,
                    expected=self.shape,
                    code="undecodable",
                )
            return frame
        # Bits follow each other over the ends of frames, the first in the lowest bit of a byte (PS3.5 8.1.1).
        size = self.shape[0] * self.shape[1]
        first, skipped = divmod(k * size, 8)
        packed = np.frombuffer(self.dataset.PixelData, np.uint8, -(-(skipped + size) // 8), first)
        return np.unpackbits(packed, count=skipped + size, bitorder="little")[skipped:].reshape(self.shape)

    def group(self, k: int, keyword: str) -> pydicom.Dataset | None:
        """The functional group of frame `k`: its own, else the one that all frames share."""
        own = items(self.dataset.PerFrameFunctionalGroupsSequence[k], keyword)
        shared = next(iter(items(self.dataset, "SharedFunctionalGroupsSequence")), None)
        return next(iter(own or items(shared, keyword)), None)

    def segment(self, k: int, known: Collection[int]) -> int:
        """The number of the segment that frame `k` shows; functional groups say it where dimension indices do not."""
        group = self.group(k, "SegmentIdentificationSequence")
        if group is None and len(known) == 1:
            return next(iter(known))
        return int(numbers(group, "ReferencedSegmentNumber", 1, f"frame {k} of {self.path}")[0])


def _check_complete(dataset: pydicom.Dataset, path: str, bits: int) -> None:
    data = dataset.get("PixelData")
    syntax = dataset.file_meta.TransferSyntaxUID
    found, needed = len(data or b""), -(-bits // 8)
    if data is None or (not syntax.is_encapsulated and found < needed):
        raise SourceError(
            f"the pixel data of {path} is truncated",
            got=f"{found} bytes",
            expected=f"{needed}",
            hint="copy the file again",
            code="truncated",
        )
    if dataset.BitsAllocated == 1 and not syntax.is_encapsulated and not syntax.is_little_endian:
        raise SourceError(
            f"{path} packs bits in big endian words",
            hint="convert it to Explicit VR Little Endian (dcmconv +te)",
            code="unsupported-seg",
        )


def _threshold(dataset: pydicom.Dataset, kind: str, path: str) -> tuple[float, tuple[str, ...]]:
    if kind != "FRACTIONAL":
        return 1.0, ()
    highest = float(numbers(dataset, "MaximumFractionalValue", 1, path)[0])
    if highest <= 0:
        raise SourceError(f"MaximumFractionalValue of {path} is not positive", got=highest, code="bad-header")
    meaning = clean_name(dataset.get("SegmentationFractionalType"), "fraction")[0].lower()
    note = (
        f"fractional segments: a voxel belongs to one from a {meaning} of {FRACTION:g} (stored {FRACTION * highest:g})"
    )
    return FRACTION * highest, (f"{note} on",)
