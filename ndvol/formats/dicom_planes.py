"""What a DICOM file holds: one plane, the frames of a multi-frame object, the tiles of a mosaic, or no image at all."""

from __future__ import annotations

from pathlib import Path

from ndvol.formats.dicom_frames import frames
from ndvol.formats.dicom_headers import GEOMETRY, MAX_PLANE_PIXELS, Header, known_uid
from ndvol.formats.dicom_mosaic import grid_tiles, mosaic_tiles

SEGMENTATIONS = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
"""Segmentation Storage and Label Map Segmentation Storage: structures, not images."""
STRUCTURE_SETS = frozenset({"1.2.840.10008.5.1.4.1.1.481.3"})
"""RT Structure Set Storage."""

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_GREYS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_NO_IMAGE = {
    "1.2.840.10008.1.3.10": ("dicomdir", "an index of files, not an image"),
    "1.2.840.10008.5.1.4.1.1.481.2": ("dose", "RT doses are not supported yet"),
}
MAX_FRAMES = 2**20
"""A file that declares more frames is damaged or hostile."""

Reason = tuple[str, str, str]


def is_structure(header: Header) -> bool:
    """True for what is drawn on images (SEG, RTSTRUCT): other readers take it."""
    return header.text("SOPClassUID") in SEGMENTATIONS | STRUCTURE_SETS


def unwanted(header: Header) -> Reason | None:
    """Status, code and reason for a file that cannot hold planes of a volume; None when it can."""
    sop_class = header.text("SOPClassUID")
    name = known_uid(sop_class).name or "unknown SOP class"
    if sop_class in _NO_IMAGE:
        return "skipped", *_NO_IMAGE[sop_class]
    sizeless = header.get("Rows") is None or header.get("Columns") is None
    if sizeless and "Image Storage" in name:
        return (
            "refused",
            "unreadable",
            f"{name} without Rows and Columns: the header is cut or damaged; copy the file again",
        )
    if sizeless or "Presentation State" in name:
        return "skipped", "not-an-image", f"{name} holds no image"
    if "LOCALIZER" in header.image_type:
        return "skipped", "localizer", "a localizer (scout) is no volume"
    many = header.integer("NumberOfFrames", 1)
    if many > MAX_FRAMES:
        return "refused", "size", f"NumberOfFrames {many}, more than {MAX_FRAMES}"
    if not header.get("PerFrameFunctionalGroupsSequence") and (many > 1 or "Enhanced" in name):
        message = "a multi-frame file without functional groups states no position per frame; convert to single frames"
        return "refused", "multi-frame", f"{name}: {message}"
    reason = _unsupported_pixels(header)
    return ("refused", *reason) if reason else None


def planes_of(root: Path, header: Header) -> tuple[Header, ...]:
    """The planes of a file: itself, its frames, or its tiles.

    Raises
    ------
    SourceError : the frames or tiles cannot be told apart or placed.
    """
    if header.get("PerFrameFunctionalGroupsSequence"):
        return frames(root, header)
    if header.get("MosaicFrames"):
        return grid_tiles(root, header)
    if "MOSAIC" in header.image_type:
        return mosaic_tiles(root, header)
    return (header,)


def unplaced(header: Header) -> Reason | None:
    """Status, code and reason for a plane that nothing places in the patient; None when it has a place."""
    if header.has_geometry:
        return None
    name = known_uid(header.text("SOPClassUID")).name
    if header.text("SOPClassUID") == _SECONDARY_CAPTURE:
        return "skipped", "secondary-capture", "a secondary capture without position is no volume"
    absent = [k for k in GEOMETRY if header.get(k) is None]
    hint = "export the original images, or convert the pixels to pictures (PNG, TIFF) and import those without geometry"
    text = f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing; a volume needs {', '.join(GEOMETRY)}"
    return "refused", "no-geometry", f"{name}: {text}; {hint}"


def _unsupported_pixels(header: Header) -> tuple[str, str] | None:
    photometric = header.text("PhotometricInterpretation")
    allowed = _GREYS if header.samples == 1 else _COLOURS
    if header.samples not in (1, 3) or photometric not in allowed:
        return "photometric", f"PhotometricInterpretation {photometric!r} with {header.samples} samples per pixel"
    if photometric == "PALETTE COLOR" and header.get("RedPaletteColorLookupTableDescriptor") is None:
        return "palette-color", "PALETTE COLOR without a palette"
    allocated, stored = header.integer("BitsAllocated"), header.integer("BitsStored")
    high = header.integer("HighBit", stored - 1)
    bad = allocated not in (8, 16, 32) or not 1 <= stored <= allocated or not stored - 1 <= high < allocated
    if bad and not header.is_float:
        return "bits", f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}"
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if min(rows, columns) < 1 or rows * columns > MAX_PLANE_PIXELS:
        return "size", f"{rows} rows x {columns} columns"
    return None
