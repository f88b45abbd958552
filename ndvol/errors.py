"""The errors of ndvol: one small tree, each class also the builtin that a caller would already catch.

A message says what is wrong and where, what was found, what was expected, and what to do next. The facts
behind it are attributes, so that a program need not parse the text:

>>> try:
...     raise GridError("the affine is singular", got="determinant 0", hint="check the spacing", grid="ct")
... except ValueError as error:
...     print(error)
...     print(error.grid)
the affine is singular; got determinant 0; check the spacing
ct
"""

from __future__ import annotations

import errno
from typing import Any


class NdvolError(Exception):
    """Base of every error that ndvol raises on purpose.

    Parameters
    ----------
    what : the fault and the thing that has it, in one clause.
    got, expected : the offending and the right value, where there is one.
    hint : what the caller can do next.
    code : a stable, hyphenated word for programs; the class's own when None.
    facts : further values, available as attributes.
    """

    code = "error"

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        hint: str = "",
        code: str | None = None,
        **facts: Any,
    ) -> None:
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if hint:
            parts.append(hint)
        super().__init__("; ".join(parts))
        self.what, self.got, self.expected, self.hint = what, got, expected, hint
        self.code = code or type(self).code
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __str__(self) -> str:
        # KeyError would show the repr of its argument.
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send errors by pickle; keyword-only arguments need help to survive it.
        # A library's exception among the facts may not.
        state = {**self.__dict__, "got": _portable(self.got), "facts": {k: _portable(v) for k, v in self.facts.items()}}
        return _rebuild, (type(self), self.args, state)


def _portable(fact: Any) -> Any:
    return str(fact) if isinstance(fact, BaseException) else fact


def _rebuild(cls: type[NdvolError], args: tuple[Any, ...], state: dict[str, Any]) -> NdvolError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


CURES = {
    errno.ENOENT: "check the path, and that its folder is there",
    errno.EACCES: "check who may read and write there",
    errno.EPERM: "check who may read and write there",
    errno.EROFS: "choose a folder that can be written",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a folder, not a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
}
"""What to do about trouble with a file, by its number."""


class WindowError(NdvolError, ValueError):
    """A window that cannot exist, or does not fit the array it is used on."""

    code = "window"


class GridError(NdvolError, ValueError):
    """A grid whose axes, shape, affine, frame and unit contradict each other."""

    code = "grid"


class GeometryError(NdvolError, ValueError):
    """Source planes that do not form one regular volume; `code` names the defect."""

    code = "geometry"


class CategoryError(NdvolError, ValueError):
    """A category tree that is not a tree: cycle, dangling parent, duplicate name."""

    code = "category"


class UnknownNameError(NdvolError, KeyError):
    """A case, volume or category that is not there; the message lists what is."""

    code = "unknown-name"


class SourceError(NdvolError, ValueError):
    """A source that is refused: unreadable, unsupported or inconsistent; `code` names the reason."""

    code = "source"


class StoreError(NdvolError, OSError):
    """A file or folder of a bundle that cannot be read or written."""

    code = "store"

    @staticmethod
    def from_os(error: OSError, path: object) -> StoreError:
        """The error for trouble while writing `path`: a `StorageFullError` when the device or quota is full."""
        full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        # h5py puts the errno into its text only.
        if error.errno in full or any(f"errno = {number}," in str(error) for number in full):
            return StorageFullError(
                f"no space left while writing {path}",
                hint="make room on the target and run the import again; published cases are untouched",
                path=str(path),
            )
        return StoreError(f"cannot write {path}", got=error, hint=CURES.get(error.errno or 0, ""), path=str(path))


class DamageError(StoreError):
    """Stored bytes differ from what was written."""

    code = "damage"


class UnsafeFileError(StoreError):
    """An HDF5 file that reaches outside itself, or declares more than it may hold."""

    code = "unsafe-file"


class StorageFullError(StoreError):
    """The device or quota is full; nothing half-written was published."""

    code = "storage-full"


class CatalogError(NdvolError, ValueError):
    """A catalogue (kwcoco file or bundle) that cannot be used."""

    code = "catalog"


class SamplingError(NdvolError, LookupError):
    """A window that was asked for does not exist in this catalogue."""

    code = "sampling"


class OptionError(NdvolError, ValueError):
    """An argument that makes no sense by itself: a negative weight, an unknown choice."""

    code = "option"


class ImportFailedError(NdvolError, RuntimeError):
    """Nothing at all could be imported; `verdicts` holds the reason for every source."""

    code = "import-failed"
