"""What the user should know of a DICOM volume that is readable, or of a series that is several volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ndvol.formats.dicom_headers import Header, known_uid
from ndvol.formats.dicom_soft import KINDS, soft_text, soft_value
from ndvol.formats.dicom_values import padding
from ndvol.geometry.gaps import GAP_SHARE
from ndvol.geometry.planes import PlaneStack

_VISIBLE_NAMES = ("US", "SC", "ES", "XA")
"""Modalities whose pixels often show the patient's name."""
_SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary Capture Image Storage; the multi-frame ones follow below it."""
_PLANES = 20
"""Planes that a message lists."""
_SHOWN = 4
"""Values of one attribute that a message lists."""


def plane_name(header: Header) -> str:
    """What messages call a plane: its file and InstanceNumber, and its frame where the file has several."""
    number = soft_text(header, "InstanceNumber") if header.values.get("InstanceNumber") is not None else "absent"
    frame = f" frame {header.frame + 1}" if header.integer("NumberOfFrames", 1) > 1 else ""
    return f"{header.path}{frame}, InstanceNumber {number}"


def doubts(headers: Sequence[Header], stack: PlaneStack) -> list[str]:
    """Doubts about geometry, values and privacy of planes in order, time by time."""
    warnings = []
    if stack.count == 1:
        warnings.append("single slice: spacing along z is the slice's thickness")
    if stack.count == 2:
        warnings.append("two slices: nothing proves that none is missing between them")
    warnings += _every_other(headers[: len(stack.order)], stack)
    if stack.tilt_deg > 0.5:
        text = f"the slices are sheared by {stack.tilt_deg:.1f} degrees (gantry tilt)"
        warnings.append(f"{text}; the affine keeps it unless they are deskewed")
    warnings += _gaps(stack)
    if headers[0].text("PhotometricInterpretation") == "MONOCHROME1":
        warnings.append("MONOCHROME1: the stored values are kept, so high values are dark")
    if len({h.rescale for h in headers}) > 1:
        warnings.append("RescaleSlope or RescaleIntercept differ between slices: values are float32")
    return [*warnings, *padding(headers)[1], *_real_world(headers), *_burned_in(headers)]


def _gaps(stack: PlaneStack) -> list[str]:
    """Which planes are masked or interpolated, in the source's order; a volume may be turned later."""
    listed = ", ".join(str(k) for k in stack.missing[:_PLANES]) + (" …" if len(stack.missing) > _PLANES else "")
    if stack.resampled:
        text = f"the slices are not evenly spaced: resampled to {_step(stack):.3f} mm"
        return [
            f"{text}, {len(stack.missing)} of {stack.count} planes are interpolated ({listed} in the source's order)"
        ]
    if stack.missing:
        text = f"{len(stack.missing)} of {stack.count} planes are missing ({listed} in the source's order)"
        return [f"{text}; their place is masked"]
    return []


def _step(stack: PlaneStack) -> float:
    """Distance of neighbouring planes of the volume along their normal."""
    return math.hypot(*stack.affine[:3, 0]) * math.cos(math.radians(stack.tilt_deg))


def _every_other(headers: Sequence[Header], stack: PlaneStack) -> list[str]:
    """Doubt about slices that lie a multiple of the stated distance apart: thinned out evenly, no gap shows it."""
    if len(headers) < 2:
        return []
    step = _step(stack)
    stated, thickness = _shared(headers, "SpacingBetweenSlices"), _shared(headers, "SliceThickness")
    keyword, distance = ("SpacingBetweenSlices", stated) if stated else ("SliceThickness", thickness)
    if not distance:
        return []
    # Some scanners write the gap between the slices' faces into SpacingBetweenSlices.
    faces = stated and thickness and stated < (1 - GAP_SHARE) * thickness
    if faces and math.isclose(step, (stated or 0) + (thickness or 0), rel_tol=GAP_SHARE / 2):
        return []
    ratio = step / distance
    times = round(ratio)
    if times < 2 or abs(ratio - times) > GAP_SHARE:
        return []
    if keyword == "SliceThickness":
        numbers = [soft_value(h, "InstanceNumber") for h in headers]
        known = [n for n in numbers if isinstance(n, float)]
        steps = {abs(b - a) for a, b in pairwise(known)}
        if len(known) < len(numbers) or steps != {float(times)}:
            return []
        keyword += f", and InstanceNumber steps by {times}"
    lost = "every second slice" if times == 2 else f"{times - 1} of every {times} slices"
    text = f"the slices lie {step:.3f} mm apart, {times} times the {distance:.3f} mm of {keyword}"
    return [f"{text}: {lost} may be missing; check that the export is complete"]


def _shared(headers: Sequence[Header], keyword: str) -> float | None:
    """The absolute number that all headers state, if it is one."""
    found = {soft_value(h, keyword) for h in headers}
    value = found.pop() if len(found) == 1 else None
    return abs(value) if isinstance(value, float) else None


def _real_world(headers: Sequence[Header]) -> list[str]:
    """A mapping of stored to real-world values (PS3.3 C.7.6.16.2.11) that says something else than the rescale."""
    shown: dict[str, None] = {}
    for header in headers:
        mapping = header.values.get("RealWorldValue")
        if not isinstance(mapping, tuple):
            continue
        slope, intercept, unit = mapping
        if slope is None or intercept is None:
            shown[f"a lookup table, unit {unit or 'not stated'}"] = None
        elif not all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(header.rescale, (slope, intercept), strict=True)):
            shown[f"{slope:g} x stored value + {intercept:g}, unit {unit or 'not stated'}"] = None
    if not shown:
        return []
    listed = " | ".join(list(shown)[:_SHOWN]) + (f" | {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
    return [f"RealWorldValueMapping is not applied: {listed}"]


def _burned_in(headers: Sequence[Header]) -> list[str]:
    if any(soft_text(h, "BurnedInAnnotation").upper() == "YES" for h in headers):
        return ["BurnedInAnnotation is YES: the pixels show text that may identify the patient; nothing removes it"]
    first = headers[0]
    captured = first.text("SOPClassUID").startswith(_SECONDARY_CAPTURES)
    if first.modality in _VISIBLE_NAMES or captured:
        kind = first.modality if first.modality in _VISIBLE_NAMES else "secondary capture"
        return [f"{kind} images often show names in their pixels; look at them before you share them"]
    return []


def differences(groups: Sequence[Sequence[Header]]) -> str:
    """How many slices each stack of a series has, and in which attributes the stacks differ, with the values."""
    found = []
    for keyword in (*KINDS, "SOPClassUID", "Rows", "Columns", "SamplesPerPixel", "StackID", "ImageOrientationPatient"):
        values = list(dict.fromkeys(" & ".join(sorted({_shown(h, keyword) for h in g})) for g in groups))
        if len(values) > 1:
            more = f", {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
            found.append(f"{keyword} ({' | '.join(v[:80] or 'absent' for v in values[:_SHOWN])}{more})")
    frames = {h.text("FrameOfReferenceUID") for g in groups for h in g}
    if len(frames) > 1:
        found.append(f"FrameOfReferenceUID ({len(frames)} of them)")
    counts = ", ".join(str(len(g)) for g in groups[:_SHOWN]) + (" …" if len(groups) > _SHOWN else "")
    return f"of {counts} slices; they differ in {', '.join(found) or 'the positions of their slices'}"


def _shown(header: Header, keyword: str) -> str:
    if keyword == "ImageOrientationPatient":
        return "\\".join(f"{v:.3f}" for v in header.numbers(keyword, 6) or ())
    value = header.text(keyword) if keyword not in KINDS else soft_text(header, keyword)
    if keyword == "SOPClassUID":
        return known_uid(value).name or value
    return value.strip("()").replace("', '", "\\").strip("'")
