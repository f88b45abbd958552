"""Soft keys: the header values that tell planes at one position apart, as columns of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ndvol.formats.dicom_headers import Header

KINDS = ("ImageType", "ConvolutionKernel", "RescaleType")
"""What makes planes at one position different images (magnitude and phase, two kernels), never a time axis."""

SHARED = (
    *("TemporalPositionIdentifier", "EchoTime", "Diffusion", "InversionTime", "FlipAngle"),
    *("NominalPercentageOfCardiacPhase", "TriggerTime", "FrameReferenceTime", "AcquisitionTime", "ContentTime"),
    "AcquisitionNumber",
)
"""What all planes of one time may have in common, most telling first."""
RANKED = ("AcquisitionTime", "TriggerTime", "FrameReferenceTime", "ContentTime", "InstanceNumber")
"""What may differ from slice to slice of one time, and still puts the times in order at every position."""
CLOCKS = ("AcquisitionTime", "ContentTime")
_DYNAMIC = ("MR", "PT", "NM")
"""Modalities whose series hold several times as a rule."""
MOST_KEYS = 3
"""Echo, b-value and time together; more keys at once would explain anything."""
EVEN_TOLERANCE = 1e-3
"""Steps between times that differ by less, in the key's own unit, are the same."""

Codes = NDArray[np.intp]


class SoftTable:
    """The values of soft keys as columns: one number per distinct value, in ascending order."""

    def __init__(self, headers: Sequence[Header], places: Codes) -> None:
        self.headers, self.places = headers, places
        self.count = int(places.max()) + 1
        names = dict.fromkeys((*SHARED, *RANKED))
        self.values = {name: [soft_value(h, name) for h in headers] for name in names}
        self.codes = {name: _codes(values) for name, values in self.values.items()}

    def partitions(self) -> Iterator[tuple[tuple[str, ...], Codes]]:
        """Ways to sort the planes, most convincing first: by shared values, then by rank within them."""
        shared = [k for k in SHARED if self.codes[k].any()]
        for r in range(1, MOST_KEYS + 1):
            for keys in combinations(shared, r):
                yield keys, self._joined(keys)
        still = [k for k in shared if k not in RANKED]
        for r in range(MOST_KEYS):
            for keys in combinations(still, r):
                for key in RANKED:
                    if (codes := self._ranked(self._joined(keys), key)) is not None:
                        yield (*keys, key), codes

    def judge(self, codes: Codes) -> tuple[bool, NDArray[np.bool_]]:
        """Whether no time has two planes at one position, and which times have one at every position."""
        size = np.bincount(codes)
        if len(codes) > len(size) * self.count:
            return False, size == self.count
        return len(np.unique(codes * self.count + self.places)) == len(codes), size == self.count

    def is_trusted(self, keys: Sequence[str], codes: Codes) -> bool:
        """Whether the keys prove a t axis.

        AcquisitionNumber alone does not (a single CT may hold 21): InstanceNumber must agree. Nor does
        InstanceNumber alone, where it may as well number reconstructions or screenshots: it needs several
        positions of a modality that repeats them, or a NumberOfTemporalPositions that agrees.
        """
        if tuple(keys) == ("AcquisitionNumber",):
            ranked = self._ranked(np.zeros_like(codes), "InstanceNumber")
            return ranked is not None and np.array_equal(ranked, codes)
        if tuple(keys) == ("InstanceNumber",):
            header = self.headers[0]
            stated = header.values.get("NumberOfTemporalPositions") == int(codes.max()) + 1
            return stated or (self.count > 1 and header.modality in _DYNAMIC)
        return True

    def order(self, codes: Codes, name: str) -> list[float] | None:
        """A value per time to sort by; None when this key does not order the times."""
        column = self.codes[name]
        if not column.any() or any(v is None for v in self.values[name]):
            return None
        low, high = _ends(column, codes)
        even = name in RANKED and _is_even(self._numbers(name), codes, self.places)
        return [float(v) for v in low] if (low == high).all() or even or _are_apart(low, high) else None

    def constant(self, codes: Codes, name: str) -> list[object] | None:
        """The value of `name` per time, when all planes of each time share it and times differ."""
        values = [soft_value(h, name) for h in self.headers]
        pairs = dict(zip(codes.tolist(), values, strict=True))
        same = all(pairs[c] == v for c, v in zip(codes.tolist(), values, strict=True))
        if not same or len(set(map(str, pairs.values()))) < 2:
            return None
        return [pairs[c] for c in range(len(pairs))]

    def lowest(self, codes: Codes, name: str) -> list[object] | None:
        """The lowest value of `name` per time, for what differs from slice to slice; None when one is missing."""
        lowest: dict[int, float] = {}
        for code, header in zip(codes.tolist(), self.headers, strict=True):
            value = soft_value(header, name)
            if not isinstance(value, float):
                return None
            lowest[code] = min(value, lowest.get(code, value))
        return [lowest[c] for c in range(len(lowest))]

    def _joined(self, keys: Sequence[str]) -> Codes:
        codes = np.zeros(len(self.headers), np.intp)
        for key in keys:
            column = self.codes[key]
            codes = compact(codes * (int(column.max()) + 1) + column)
        return codes

    def _numbers(self, name: str) -> NDArray[np.float64]:
        return np.array(self.values[name], np.float64)

    def _ranked(self, codes: Codes, key: str) -> Codes | None:
        """The rank of `key` among the planes of one place and code, joined with the code; None when unsure."""
        if any(v is None for v in self.values[key]):
            return None
        ranks = _ranks(self.codes[key], codes * self.count + self.places)
        if ranks is None or not ranks.any():
            return None
        for code in range(int(codes.max()) + 1):
            members = np.flatnonzero(codes == code)
            if ranks[members].any() and not self._is_sure(members, ranks[members], key):
                return None
        return compact(codes * (int(ranks.max()) + 1) + ranks)

    def _is_sure(self, members: Codes, ranks: Codes, key: str) -> bool:
        """Whether the ranks mean the same at every position: see `sort_times`."""
        places = self.places[members]
        if _are_apart(*_ends(self.codes[key][members], ranks)):
            return True
        if _is_even(self._numbers(key)[members], ranks, places):
            return True
        if key == "InstanceNumber" or any(self.values["InstanceNumber"][i] is None for i in members):
            return False
        other = _ranks(self.codes["InstanceNumber"][members], places)
        return other is not None and np.array_equal(other, ranks)


def _ends(column: Codes, codes: Codes) -> tuple[Codes, Codes]:
    """Lowest and highest of `column` per code."""
    low = np.full(int(codes.max()) + 1, np.iinfo(np.intp).max)
    high = np.full(len(low), -1)
    np.minimum.at(low, codes, column)
    np.maximum.at(high, codes, column)
    return low, high


def _are_apart(low: Codes, high: Codes) -> bool:
    """True when the times follow each other without interleaving."""
    order = np.argsort(low, kind="stable")
    return bool((high[order][:-1] < low[order][1:]).all())


def _is_even(numbers: NDArray[np.float64], codes: Codes, places: Codes) -> bool:
    """``value[t, z] = a[t] + b[z]``: the steps between times are the same at all positions."""
    grid = np.full((int(codes.max()) + 1, int(places.max()) + 1), np.nan)
    grid[codes, places] = numbers
    steps = grid - grid[:1]
    known = ~np.isnan(steps)
    low, high = np.where(known, steps, np.inf).min(1), np.where(known, steps, -np.inf).max(1)
    return bool(known.any(1).all() and (high - low <= EVEN_TOLERANCE).all())


def _ranks(column: Codes, group: Codes) -> Codes | None:
    """The rank of each plane within its group; None when two of a group are equal."""
    order = np.lexsort((column, group))
    fresh = np.concatenate([[True], np.diff(group[order]) != 0])
    if (~fresh[1:] & (np.diff(column[order]) == 0)).any():
        return None
    index = np.arange(len(order))
    ranks = np.empty(len(order), np.intp)
    ranks[order] = index - np.maximum.accumulate(np.where(fresh, index, 0))
    return ranks


def soft_value(header: Header, name: str) -> float | tuple[float, ...] | None:
    """The number behind a soft key, rounded so that digits of its text do not matter; None when it has none."""
    if name in CLOCKS:
        return _seconds(header, name)
    if name == "Diffusion":
        b, gradient = soft_value(header, "DiffusionBValue"), soft_value(header, "DiffusionGradientOrientation")
        return None if b is None else (b, *(gradient if isinstance(gradient, tuple) else ()))  # type: ignore[arg-type]
    value = header.values.get(name)
    try:
        if name == "DiffusionGradientOrientation":
            return None if value is None else tuple(round(float(v), 4) for v in value)
        number = float(value[0] if isinstance(value, tuple) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return round(number, 4) if np.isfinite(number) else None


def _seconds(header: Header, name: str) -> float | None:
    """A clock time (PS3.5 6.2, TM or DT) as seconds; only differences mean anything."""
    text = header.values.get(name)
    day = header.values.get(name.replace("Time", "Date"))
    try:
        if len(digits := str(text).partition(".")[0]) == 14:
            text, day = str(text)[8:], digits[:8]
        text = str(text).split("+")[0].split("-")[0]
        hours, minutes, seconds = int(text[:2]), int(text[2:4] or 0), float(text[4:] or 0)
        past = date(int(day[:4]), int(day[4:6]), int(day[6:8])).toordinal() if day else 0
    except (TypeError, ValueError):
        return None
    return round(past * 86400 + hours * 3600 + minutes * 60 + seconds, 6)


def soft_text(header: Header, name: str) -> str:
    value = header.values.get(name)
    return "" if isinstance(value, Exception) else str(value)


def sort_key(value: object) -> tuple[float, ...]:
    if value is None:
        return ()
    return tuple(map(float, value)) if isinstance(value, tuple) else (float(value),)  # type: ignore[arg-type]


def _codes(values: Iterable[object]) -> Codes:
    """Each value as its rank among the distinct ones; missing values come first."""
    listed = list(values)
    rank = {v: k for k, v in enumerate(sorted(set(listed), key=sort_key))}
    return np.array([rank[v] for v in listed], np.intp)


def compact(codes: Codes) -> Codes:
    """`codes` without the numbers that do not occur, in the same order."""
    return np.asarray(np.unique(codes, return_inverse=True)[1], np.intp)
