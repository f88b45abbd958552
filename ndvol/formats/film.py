"""What the header of a video or an animation says."""

from __future__ import annotations

from dataclasses import dataclass

from ndvol.errors import SourceError
from ndvol.formats.picture_files import MAX_PIXELS

MAX_BYTES = 2**33
"""Of all decoded frames, which are held in memory at once."""


@dataclass(frozen=True, slots=True)
class Film:
    """Frames of 8 bits per sample.

    Attributes
    ----------
    count : number of frames.
    rows, columns : of a frame, upright.
    colours : whether a frame has three colours or one grey value.

    Raises
    ------
    SourceError : codes ``shape`` and ``too-large``.
    """

    path: str
    count: int
    rows: int
    columns: int
    colours: bool
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.count, self.rows, self.columns) < 1:
            got = f"{self.count} frames of {self.columns} x {self.rows}"
            raise SourceError(f"{self.path} has no frame with a pixel", got=got, code="shape")
        if self.rows * self.columns > MAX_PIXELS or self.nbytes > MAX_BYTES:
            raise SourceError(
                f"{self.path} is too large to be read at once",
                got=f"{self.count} frames of {self.columns} x {self.rows}: {self.nbytes} bytes",
                expected=f"at most {MAX_BYTES}",
                hint="cut it into shorter ones",
                code="too-large",
            )

    @property
    def nbytes(self) -> int:
        return self.count * self.rows * self.columns * (3 if self.colours else 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """(t, c, y, x), or (t, y, x) of grey frames."""
        return (self.count, *([3] if self.colours else []), self.rows, self.columns)
