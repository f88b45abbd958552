"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    group, name : what.
    value : what was found, for a person.
    status : ``warning`` costs time or shuts out some sources; with a ``problem`` ndvol does not work.
    advice : what to change; empty when all is well.
    """

    group: str
    name: str
    value: str
    status: Status = "ok"
    advice: str = ""


def judged(group: str, name: str, value: str, advice: str, status: Status = "warning") -> Finding:
    """A finding that is ok without `advice`, and has `status` with it."""
    return Finding(group, name, value, status if advice else "ok", advice)
