"""DrawReport: what a sampler really draws, with confidence intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Self

from ndvol.sampling.target import Target
from ndvol.tables import table

Z_95 = 1.959963984540054
"""Quantile of the normal distribution for intervals that hold the truth in 95 of 100 cases."""

SHOWN = 12
"""Rows of a table in the text; the dataclass has all."""


@dataclass(frozen=True, slots=True)
class Share:
    """How often something was drawn.

    Attributes
    ----------
    name : of a role, category or case.
    count, draws : how often it was drawn, of how many draws.
    """

    name: str
    count: int
    draws: int

    @property
    def share(self) -> float:
        return self.count / self.draws

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval of 95 % for the true share (E. B. Wilson, JASA 22, 1927).

        >>> Share("a", 0, 10).interval[0], round(Share("a", 0, 10).interval[1], 4)
        (0.0, 0.2775)
        """
        n, p, square = self.draws, self.share, Z_95**2
        centre = p + square / (2 * n)
        reach = Z_95 * sqrt(p * (1 - p) / n + square / (4 * n * n))
        low, high = (centre - reach) / (1 + square / n), (centre + reach) / (1 + square / n)
        return (low if self.count else 0.0), (high if self.count < n else 1.0)


@dataclass(frozen=True, slots=True)
class DrawReport:
    """What was drawn; ``print(report)`` shows it as tables.

    Attributes
    ----------
    draws : number of targets drawn.
    roles, cases : of all draws; the most frequent first. Cases that were never drawn are there, too.
    categories : of the positives, the category that was asked for.
    leaves : of the positives with a voxel or an object, the category that this has itself.
    """

    draws: int
    roles: tuple[Share, ...]
    categories: tuple[Share, ...]
    leaves: tuple[Share, ...]
    cases: tuple[Share, ...]

    @classmethod
    def of(cls, targets: Iterable[Target], cases: Iterable[str]) -> Self:
        """The report on some targets, drawn from `cases`."""
        drawn = [(t.role, t.category, t.leaf, t.case) for t in targets]
        return cls(
            len(drawn),
            _shares(role for role, *_ in drawn),
            _shares(category for _, category, _, _ in drawn if category is not None),
            _shares(leaf for _, _, leaf, _ in drawn if leaf is not None),
            _shares((case for *_, case in drawn), cases),
        )

    def __str__(self) -> str:
        parts = {"role": self.roles, "category": self.categories, "leaf": self.leaves, "case": self.cases}
        missed = sum(share.count == 0 for share in self.cases)
        text = [f"{self.draws} draws from {len(self.cases)} cases" + (f", {missed} of them never drawn" * bool(missed))]
        for title, shares in parts.items():
            if not shares:
                continue
            rows = [
                {
                    title: s.name,
                    "draws": s.count,
                    "share": f"{s.share:.2%}",
                    "95 % interval": f"{s.interval[0]:.2%} … {s.interval[1]:.2%}",
                }
                for s in shares[:SHOWN]
            ]
            text.append(table(rows) + (f"\n… and {len(shares) - SHOWN} more" if len(shares) > SHOWN else ""))
        return "\n\n".join(text)


def _shares(names: Iterable[str], all_names: Iterable[str] = ()) -> tuple[Share, ...]:
    counts = Counter(names)
    draws = counts.total()
    for name in all_names:
        counts.setdefault(name, 0)
    return tuple(Share(name, count, draws) for name, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
