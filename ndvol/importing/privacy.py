"""What of a source's identity may reach a bundle, the terminal and errors: profiles, pseudonyms and their key.

Headers pass by allow-list whatever the profile: readers hand over geometry, modality and acquisition physics only.
This module is about the rest: names of files and folders, texts, messages.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ndvol.errors import NdvolError, OptionError, SourceError
from ndvol.formats import Series, VolumeData
from ndvol.importing.options import ImportOptions
from ndvol.importing.terms import BURNED_IN_MODALITIES, CHANNELS, LABEL_VOLUMES, MODALITIES, TERMS, UNITS
from ndvol.importing.wording import HIDDEN, scrub
from ndvol.verdict import Verdict

T = TypeVar("T")

MIN_KEY = 16
"""Bytes: a shorter key can be guessed, and with it every name."""
BURNED_IN = "pictures of this kind often hold burned-in annotation; ndvol neither examines nor removes it"

_OUR_SOURCE = re.compile(r"(file|series)-[0-9a-f]{12}|volumes/[\w.-]+")
"""Pseudonyms, and files of the bundle itself."""
_BASIC = {"code": "113100", "meaning": "Basic Application Confidentiality Profile"}
_DESCRIPTORS = {"code": "113105", "meaning": "Clean Descriptors Option"}
"""De-identification methods of PS3.16 CID 7050, as PS3.15 annex E defines them."""


@dataclass(frozen=True, slots=True)
class Privacy:
    """The profile of an import with its key; see `ImportOptions.phi`.

    Attributes
    ----------
    profile : ``strict``, ``research`` or ``keep``.
    key : of the pseudonyms; without one they are plain SHA-256, which whoever guesses a name can check.
    own : names that the user gave in the options: they stay in every profile.
    """

    profile: str
    key: bytes = field(default=b"", repr=False)
    own: frozenset[str] = frozenset()

    @classmethod
    def of(cls, options: ImportOptions) -> Privacy:
        """Raises OptionError when the key file cannot be read or is shorter than `MIN_KEY` bytes."""
        key = b""
        if options.phi_key:
            try:
                key = Path(options.phi_key).read_bytes()
            except OSError as error:
                raise OptionError("the key file cannot be read", got=error.strerror, code="phi-key") from error
            if len(key) < MIN_KEY:
                raise OptionError(
                    "the key file is too short",
                    got=f"{len(key)} bytes",
                    expected=f"{MIN_KEY} bytes or more",
                    hint="make one with `head -c 32 /dev/urandom`",
                    code="phi-key",
                )
        named = {row["name"] for row in options.categories} | {options.label_name, options.modality, *options.merge}
        return cls(options.phi, key, frozenset(name for name in named if name))

    @property
    def strict(self) -> bool:
        return self.profile == "strict"

    @property
    def tag(self) -> str:
        """The profile, and a check value of the key: what rows of one bundle must have in common."""
        return f"{self.profile}+{self.digest('key', '')}" if self.key else self.profile

    def digest(self, kind: str, text: str, length: int = 8) -> str:
        """`length` hexadecimal digits of the keyed hash (HMAC-SHA256), or of SHA-256 without a key."""
        data = f"ndvol\0{kind}\0{text}".encode("utf-8", "surrogateescape")
        return (hmac.new(self.key, data, "sha256") if self.key else hashlib.sha256(data)).hexdigest()[:length]

    def hides(self, series: Series) -> bool:
        """True when the names of the files of `series` must not reach the bundle."""
        return self.strict or (self.profile == "research" and from_dicom(series))

    def case_name(self, proposed: str, series: Series, identity: str, kind: str) -> str | None:
        """The pseudonym of a case, or None when the proposed name may stay.

        Parameters
        ----------
        series : one of the case, of DICOM if any is.
        identity : what the pseudonym is a hash of: UIDs, or folders and name below the root.
        kind : the word before the hash.
        """
        dicom = from_dicom(series)
        if not self.hides(series) or (not self.strict and not self.key):
            return proposed if self.profile != "keep" and dicom else None
        return f"{kind}-{self.digest('case', identity)}"

    def modality(self, stated: str) -> str:
        return stated if not self.strict or stated in MODALITIES | self.own else ""

    def channel(self, name: str) -> str:
        """The name of an image of several."""
        known = not self.strict or not name or CHANNELS.fullmatch(name) or name in self.own
        return name if known else f"channel-{self.digest('channel', name)}"

    def structure(self, name: str) -> str:
        """The category of a structure: in ``strict`` its name only when the user's table has it.

        A pseudonym is the same in every case, so that structures of one name stay one category.
        """
        return name if not self.strict or name in self.own else f"structure-{self.digest('structure', name)}"

    def label_volume(self, name: str, planned: str) -> str:
        """The name of a volume of structures: its reader's own word, not one of the file's."""
        return name if not self.strict or LABEL_VOLUMES.fullmatch(name) else planned

    def table(self, rows: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
        """The category table of a layout (``dataset.json``) with the names that may be said."""
        named = ("name", "supercategory")
        return tuple({k: self.structure(v) if k in named and v else v for k, v in row.items()} for row in rows)

    def file_names(self, series: Series) -> list[str]:
        """The files of `series` as the journal may name them, in their order."""
        return [self.digest("file", f, 16) for f in series.files] if self.hides(series) else list(series.files)

    def facts(self, data: VolumeData, modality: str) -> dict[str, Any]:
        """The attributes to store with an image; in ``strict`` only numbers and defined terms."""
        stated = {"modality": self.modality(data.modality) or modality, "value_unit": data.value_unit}
        if not self.strict:
            return {**data.attributes, **stated}
        stated["value_unit"] = data.value_unit if data.value_unit in UNITS else ""
        return {**{k: v for k, v in data.attributes.items() if _says_nothing(v)}, **stated}

    def methods(self, dicom: bool, structures: bool, labels: bool) -> list[dict[str, str]]:
        """The methods of PS3.15 that a case's file can claim.

        Parameters
        ----------
        dicom : the case comes from DICOM; structures : with named ones; labels : it has labels of any kind.
        """
        if self.strict:
            return [_BASIC, *[_DESCRIPTORS] * labels]
        # Names of structures pass as they are in `research`, which the basic profile does not permit.
        return [_BASIC] if self.profile == "research" and dicom and not structures else []

    def shield(self, action: Callable[[], T], names: Mapping[str, str] | None = None, folder: str = "") -> T:
        """What `action` returns; in ``strict`` its errors say ndvol's own words only, and nothing hangs on to them.

        Parameters
        ----------
        folder : the bundle's, which the user named: errors may name it too.
        """
        if not self.strict:
            return action()
        failure: Exception
        try:
            return action()
        except NdvolError as error:
            failure = _scrubbed(error, names or {}, folder)
        except Exception as error:
            failure = SourceError("a fault in ndvol or in a library", got=type(error).__name__, code="internal")
        # Raised here and not above, so that the original is not attached.
        raise failure

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """In ``strict``, silence for what libraries print, log and warn of: they quote names and values."""
        if not self.strict:
            yield
            return
        with warnings.catch_warnings(), _no_output():
            warnings.simplefilter("ignore")
            level = logging.root.manager.disable
            logging.disable()
            try:
                yield
            finally:
                logging.disable(level)


@dataclass(frozen=True, slots=True)
class Disguise:
    """Sources of one plan under the names that may be shown and stored.

    Attributes
    ----------
    aliases : source -> pseudonym, for the sources whose names must not reach the bundle. Keep it out of the bundle.
    names : of cases and volumes, which messages may say.
    """

    privacy: Privacy
    aliases: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    def alias(self, source: str) -> str:
        """How the bundle's journal names a source."""
        if not self.privacy.strict or source in self.aliases or _OUR_SOURCE.fullmatch(source):
            return self.aliases.get(source, source)
        return f"file-{self.privacy.digest('source', source, 12)}"

    def shown(self, verdict: Verdict) -> Verdict:
        """The verdict for the person who imports: in ``strict`` as it is stored, else with the real names."""
        return self.stored(verdict) if self.privacy.strict else verdict

    def stored(self, verdict: Verdict) -> Verdict:
        """The verdict as it may stand in the bundle."""
        if not self.aliases:
            return verdict
        source = verdict.source
        # Only this source: to look for thousands in each of thousands of messages would take hours.
        own = {source: self.alias(source)}
        return replace(verdict, source=own[source], message=self.text(verdict.message, own))

    def text(self, text: str, replacements: Mapping[str, str]) -> str:
        """`text` in ndvol's own words."""
        return scrub(text, replacements, self.names | self.privacy.own)

    def disguised(self, series: Series) -> Series:
        """In ``strict`` the series under its pseudonym, so that no error of its reader can name it."""
        if not self.privacy.strict:
            return series
        own = {series.source: self.alias(series.source)}
        return replace(series, source=own[series.source], warnings=tuple(self.text(w, own) for w in series.warnings))


def from_dicom(series: Series) -> bool:
    """True when a series was read from DICOM: by its identity, or the name of its reader."""
    return bool(series.uid or series.frame) or is_dicom_reader(series.reader)


def is_dicom_reader(name: str) -> bool:
    return name.startswith("dicom")


def may_be_burned_in(data: VolumeData) -> bool:
    """True when the source says so (BurnedInAnnotation, PS3.3 C.7.6.1.1.9), or its modality often is."""
    stated = data.attributes.get("BurnedInAnnotation")
    return stated == "YES" or (stated != "NO" and data.modality in BURNED_IN_MODALITIES)


def _says_nothing(value: object) -> bool:
    """True for numbers, lists of them as JSON, defined terms and ndvol's own words."""
    if not isinstance(value, str):
        return True
    if value.startswith("["):
        try:
            found = json.loads(value)
        except ValueError:
            return False
        return all(isinstance(v, int | float) and abs(v) < 1e7 for v in found)
    return set(re.split(r"[\s\\+]", value)) <= TERMS or HIDDEN not in scrub(value, {})


def _scrubbed(error: NdvolError, names: Mapping[str, str], folder: str) -> NdvolError:
    pieces = str(error).split(folder) if folder else [str(error)]
    text = folder.join(scrub(piece, names) for piece in pieces)
    twin = type(error).__new__(type(error))
    twin.args = (text,)
    facts = {"verdicts": error.facts["verdicts"]} if "verdicts" in error.facts else {}
    twin.__dict__.update(what=text, got=None, expected=None, hint="", code=error.code, facts=facts)
    return twin


@contextmanager
def _no_output() -> Iterator[None]:
    """File descriptors 1 and 2 lead nowhere: C libraries write to them past Python."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        os.close(nowhere)
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)
