"""Versions: Python, ndvol, what it needs, and what its extras need."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, requires, version

from ndvol.doctor.findings import Finding, judged
from ndvol.version import __version__

_MODULES = {
    "pillow": "PIL",
    "python-gdcm": "gdcm",
    "pylibjpeg-openjpeg": "openjpeg",
    "pyjpegls": "jpeg_ls",
    "simpleitk": "SimpleITK",
}
"""Modules that are not called as their package is."""
_DEVELOPERS = ("test", "docs")
"""Extras that are no business of a user."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package that ndvol needs, or one of its extras does; `least` is the oldest version that is tested."""

    name: str
    least: str
    extra: str

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """
        >>> Requirement.parse("dask[array]>=2024.1; extra == 'dask'")
        Requirement(name='dask', least='2024.1', extra='dask')
        """
        needed, _, marker = text.partition(";")
        patterns = (r"^[\w.-]+", needed), (r"(?<=>=)[\d.]+", needed), (r"(?<=extra == ['\"])[\w-]+", marker)
        return cls(*(found[0] if (found := re.search(*pattern)) else "" for pattern in patterns))

    @property
    def installed(self) -> str | None:
        """The version that is installed, if any."""
        try:
            return version(self.name)
        except PackageNotFoundError:
            return None

    def is_met_by(self, found: str) -> bool:
        """
        >>> Requirement("numpy", "1.26", "").is_met_by("1.9.5")
        False
        """
        return _numbers(found) >= _numbers(self.least)


def _numbers(text: str) -> tuple[int, ...]:
    found = [int(n) for n in re.findall(r"\d+", text.partition("+")[0])]
    return (*found, 0, 0, 0)[:3]


def check_packages() -> Iterator[Finding]:
    """Versions of all, and whether the packages that ndvol needs can be imported."""
    yield Finding("versions", "Python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("versions", "ndvol", __version__)
    try:
        wanted = [Requirement.parse(text) for text in requires("ndvol") or ()]
    except PackageNotFoundError:
        advice = "install it (pip install .): without its metadata no reader is found"
        yield Finding("versions", "ndvol's metadata", "missing", "problem", advice)
        return
    yield _readers()
    yield from (_needed(one) for one in wanted if not one.extra)
    yield _hdf5()
    extras: dict[str, list[Requirement]] = {}
    for one in wanted:
        if one.extra and one.extra not in _DEVELOPERS:
            extras.setdefault(one.extra, []).append(one)
    yield from (_extra(name, needed) for name, needed in extras.items())


def _readers() -> Finding:
    found = sorted(point.name for point in entry_points(group="ndvol.readers"))
    return judged("versions", "readers", ", ".join(found), "" if found else "install ndvol again", "problem")


def _needed(one: Requirement) -> Finding:
    found = one.installed
    install = f'pip install "{one.name}>={one.least}"'
    if found is None:
        return Finding("versions", one.name, "missing", "problem", install)
    if not one.is_met_by(found):
        return Finding("versions", one.name, found, "problem", f"{one.least} or later is needed: {install}")
    module = _MODULES.get(one.name.lower(), one.name.replace("-", "_"))
    try:
        import_module(module)
    except Exception as error:  # a wheel for another machine fails in its own ways
        fault = f"{found}, but `import {module}` fails: {type(error).__name__}: {error}"
        return Finding("versions", one.name, fault, "problem", f"pip install --force-reinstall {one.name}")
    return Finding("versions", one.name, found)


def _hdf5() -> Finding:
    h5py = sys.modules.get("h5py")
    return Finding("versions", "HDF5 in h5py", h5py.version.hdf5_version if h5py else "unknown")


def _extra(name: str, needed: list[Requirement]) -> Finding:
    """An extra is installed, or it is said how to install it; only one that is too old is worth a warning."""
    states = {one.name: one.installed for one in needed}
    value = ", ".join(f"{package} {found or 'not installed'}" for package, found in states.items())
    install = f'pip install "ndvol[{name}]"'
    old = [one.name for one in needed if (found := states[one.name]) and not one.is_met_by(found)]
    if old:
        return Finding("extras", name, value, "warning", f"too old: {', '.join(old)}; {install}")
    return Finding("extras", name, value if all(states.values()) else f"{value}; {install}")
