"""The parameters of a request, taken strictly: what is not understood is refused by its name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import parse_qsl

from ndvol.errors import OptionError

MAX_PARAMETERS = 32
MAX_TEXT = 1000
"""Characters of one parameter: names of cases and volumes are far shorter."""


class Query:
    """The query of a URL: every parameter known, given once, and short.

    Parameters
    ----------
    text : what follows the question mark, still encoded.
    names : parameters that the request may have.

    Raises
    ------
    OptionError : naming the parameter as ``error.parameter``.

    >>> Query("at=3&case=toy%2D0", ("at", "case", "find")).whole("at", 0, 9)
    3
    """

    def __init__(self, text: str, names: Collection[str]) -> None:
        try:
            pairs = parse_qsl(
                text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=MAX_PARAMETERS
            )
        except ValueError as error:
            raise OptionError("the query of the URL cannot be read", got=error, parameter="") from None
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name not in names:
                raise refused(name[:40], "is not known here", f"one of {', '.join(names) or '(none)'}")
            if name in self._values:
                raise refused(name, "is given twice", "it once")
            if len(value) > MAX_TEXT:
                raise refused(name, f"has {len(value)} characters", f"{MAX_TEXT} at most")
            self._values[name] = value

    def text(self, name: str, default: str | None = None) -> str:
        """The parameter as text; `default` when it is not given, which it must be when that is None."""
        value = self._values.get(name, default)
        if value is None:
            raise refused(name, "is missing", "it in the URL")
        return value

    def choice(self, name: str, among: Collection[str], default: str | None = None) -> str:
        """One of the texts `among`."""
        value = self.text(name, default)
        if value not in among:
            raise refused(name, f"is {value[:40]!r}", f"one of {', '.join(among) or '(none)'}")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """The lines of the parameter; none when it is not given or empty."""
        return tuple(filter(None, self.text(name, "").split("\n")))

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` up to and with `high`."""
        return self._wholes(name, self.text(name, None if default is None else str(default)), 1, low, high)[0]

    def wholes(self, name: str, count: int | None, low: int, high: int) -> tuple[int, ...]:
        """Whole numbers separated by commas, `count` of them unless it is None."""
        return self._wholes(name, self.text(name), count, low, high)

    def share(self, name: str, default: float) -> float:
        """A number from 0 to 1."""
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            raise refused(name, f"is {value[:40]!r}", "a number from 0 to 1")
        return number

    def _wholes(self, name: str, text: str, count: int | None, low: int, high: int) -> tuple[int, ...]:
        # int() would also take spaces, underscores and the digits of other scripts.
        parts = text.split(",")
        good = [p for p in parts if p.isascii() and p.removeprefix("-").isdigit() and len(p) <= 20]
        numbers = tuple(int(p) for p in good)
        wrong = len(good) != len(parts) or (count is not None and len(parts) != count)
        if wrong or not all(low <= n <= high for n in numbers):
            what = "a whole number" if count == 1 else f"{count or 'some'} whole numbers with commas between,"
            raise refused(name, f"is {text[:40]!r}", f"{what} from {low} to {high}")
        return numbers


def refused(name: str, fault: str, expected: object) -> OptionError:
    """The error for parameter `name`, for the caller to raise."""
    return OptionError(f"the parameter {name!r} {fault}", expected=expected, code="parameter", parameter=name)


def name_of(query: Query, name: str, among: Sequence[str]) -> str:
    """The name of a volume: the parameter, by default the first of those `among`."""
    return query.choice(name, among, among[0] if among else None)
