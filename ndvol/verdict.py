"""What happened to one source of an import, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from ndvol.errors import NdvolError

STATUSES = ("imported", "imported with warnings", "unchanged", "split", "skipped", "refused")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fate of a source: a file, or the files of one series.

    Attributes
    ----------
    source : path relative to the import's root, with ``/``; a series is named by its folder or first file.
    status : one of `STATUSES`.
    code : stable, hyphenated word for the reason; ``ok`` when there is none.
    message : the reason with its facts, for a person.
    case : the case that the source went into, if any; for a refused label the one that was imported without it.
    files : number of files that the verdict is about.
    """

    source: str
    status: str
    code: str = "ok"
    message: str = ""
    case: str | None = None
    files: int = 1

    @classmethod
    def refused(cls, source: str, error: NdvolError, *, files: int = 1) -> Self:
        """The verdict for a source whose reading raised `error`."""
        return cls(source, "refused", error.code, str(error), files=files)

    def with_case(self, case: str, *, status: str | None = None) -> Self:
        """The same verdict, for a source that went into `case`."""
        return replace(self, case=case, status=status or self.status)

    def to_json(self) -> dict[str, Any]:
        """As a row of ``import.jsonl``."""
        return {name: getattr(self, name) for name in self.__slots__}
