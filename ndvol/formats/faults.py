"""What a foreign library complained about, in one line that a report may show."""

from __future__ import annotations

from pathlib import Path


def reason(error: BaseException, root: Path) -> str:
    """The first line of the error's text, without the path of `root`: reports name sources relative to it."""
    text = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    return text.replace(f"{root}/", "").replace(str(root), ".")
