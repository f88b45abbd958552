"""Charts as inline SVG: histograms, bars of a table, intervals."""

from __future__ import annotations

from math import floor, log10

import numpy as np
from numpy.typing import NDArray

from ndvol.markup import Html, element, join
from ndvol.report.values import Histogram

_WIDTH, _HEIGHT, _TICKS = 300, 90, 16


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them.

    >>> nice_ticks(-1000, 1900), nice_ticks(0.13, 0.58)
    ([-1000.0, 0.0, 1000.0], [0.2, 0.3, 0.4, 0.5])
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.7)
    first = np.ceil(low / step - 1e-9)
    # Adding 0 makes 0 of -0.
    return [round(float(k * step), 12) + 0.0 for k in np.arange(first, high / step + 1e-9)]


def histogram_chart(found: Histogram, label: str, *, rooted: bool = False) -> Html:
    """Bars of a histogram over an axis with round numbers; each bar tells its range and count.

    Parameters
    ----------
    label : what is counted, for those who do not see the chart.
    rooted : whether heights are square roots, so that what is rare beside air can be seen.
    """
    edges, counts = found.edges, found.counts
    span, top = float(edges[-1] - edges[0]) or 1.0, max(int(counts.max()), 1)
    heights = np.sqrt(counts / top) if rooted else counts / top
    bars = []
    for k in np.flatnonzero(counts).tolist():
        x0, x1 = ((float(edge) - float(edges[0])) / span * _WIDTH for edge in edges[k : k + 2])
        height = max(1.0, float(heights[k]) * _HEIGHT)
        gap = min(1.0, (x1 - x0) / 5)
        box = {"x": _short(x0 + gap / 2), "y": _short(_HEIGHT - height), "height": _short(height)}
        # A value alone stands in a bar, not in a wall.
        wide = min(x1 - x0 - gap, 28.0)
        box |= {"x": _short((x0 + x1 - wide) / 2), "width": _short(wide)}
        bars.append(element("rect", box, element("title", {}, _bin(found, k))))
    ticks = nice_ticks(float(edges[0]), float(edges[-1])) if len(counts) > 1 else [float(edges[:2].mean())]
    if found.one_by_one:
        ticks = [tick for tick in ticks if tick.is_integer()]
    marks = []
    for tick in ticks:
        x = (tick - float(edges[0])) / span * _WIDTH
        anchor = "start" if x < 14 else "end" if x > _WIDTH - 14 else "middle"
        at = {"x": _short(x), "y": _HEIGHT + _TICKS - 3, "text-anchor": anchor}
        marks.append(element("line", {"x1": _short(x), "x2": _short(x), "y1": _HEIGHT, "y2": _HEIGHT + 3}))
        marks.append(element("text", at, f"{tick:g}"))
    base = element("line", {"x1": 0, "x2": _WIDTH, "y1": _HEIGHT, "y2": _HEIGHT})
    view = {"viewBox": f"0 0 {_WIDTH} {_HEIGHT + _TICKS}", "role": "img", "aria-label": label, "class": "histogram"}
    return element("svg", view, join(bars), base, join(marks))


def bar(value: float, most: float, colour: str | None = None) -> Html:
    """A horizontal bar of `value` beside others, the longest of which is `most`."""
    share = value / most if most else 0.0
    width = max(share * 100, 1.0) if value else 0.0
    style = f"width:{_short(width)}%" + (f";background:{colour}" if colour else "")
    return element("span", {"class": "bar", "aria-hidden": "true"}, element("i", {"style": style}))


def interval_chart(share: float, interval: tuple[float, float]) -> Html:
    """A share from 0 to 1 as a bar, with the interval that holds the true one as a line across its end."""
    low, high = interval
    parts = [
        element("rect", {"x": 0, "y": 3, "width": _short(share * 100), "height": 6}),
        element("line", {"x1": _short(low * 100), "x2": _short(high * 100), "y1": 6, "y2": 6}),
    ]
    view = {"viewBox": "0 0 100 12", "preserveAspectRatio": "none", "class": "interval", "aria-hidden": "true"}
    return element("svg", view, join(parts))


def _bin(found: Histogram, k: int) -> str:
    low, high = found.edges[k : k + 2].tolist()
    where = f"{(low + high) / 2:g}" if len(found.counts) == 1 or found.one_by_one else f"{low:g} … {high:g}"
    return f"{where}: {found.counts[k]:,}"


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def strip_chart(values: NDArray[np.float64], span: tuple[float, float], colour: str, label: str) -> Html:
    """A small histogram of positive numbers on a logarithmic axis over `span`, to stand among others in a table."""
    bins, wide, tall = 24, 144, 22
    low, high = np.log10(span[0]), np.log10(span[1])
    edges = np.linspace(low, high, bins + 1) if high > low else np.array([low - 1, low + 1])
    counts = np.histogram(np.log10(values).clip(edges[0], edges[-1]), edges)[0]
    step = wide / len(counts)
    width = min(step, 10) - 1
    bars = []
    for k in np.flatnonzero(counts).tolist():
        height = max(2.0, float(counts[k]) / counts.max() * tall)
        box = {"x": _short((k + 0.5) * step - width / 2), "y": _short(tall - height), "height": _short(height)}
        bars.append(element("rect", box | {"width": _short(width), "fill": colour}))
    base = element("line", {"x1": 0, "x2": wide, "y1": tall, "y2": tall})
    view = {"viewBox": f"0 0 {wide} {tall + 1}", "role": "img", "aria-label": label, "class": "strip"}
    return element("svg", view, join(bars), base)
