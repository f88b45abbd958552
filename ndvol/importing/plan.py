"""The plan of an import: which sources become which volumes of which cases. Data, printable, no pixel decoded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ndvol.errors import SourceError
from ndvol.formats import Series, readers
from ndvol.formats.archives import archive_verdict
from ndvol.importing.layouts import DatasetTable, Place, place_series, read_tables
from ndvol.importing.names import case_names, image_name, named_label, proposed_name, slug
from ndvol.importing.options import ImportOptions
from ndvol.importing.privacy import Disguise, Privacy, from_dicom, is_dicom_reader
from ndvol.opening import JOURNAL_NAME
from ndvol.verdict import Verdict


@dataclass(frozen=True, slots=True)
class PlannedVolume:
    """A series and the name its volume gets; `root` is the folder that the series' files are relative to."""

    name: str
    root: str
    series: Series


@dataclass(frozen=True, slots=True)
class PlannedLabel:
    """The sources of one case's labels.

    Attributes
    ----------
    name : of the label volume; structures bring their own names.
    root : the folder that the files are relative to.
    series : one label map, or several binary masks of one structure each, or structures drawn on an image.
    kind : ``map``, ``masks`` or ``structures``.
    """

    name: str
    root: str
    series: tuple[Series, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class CasePlan:
    """One case: its images and labels, and the categories that its layout states."""

    name: str
    images: tuple[PlannedVolume, ...]
    labels: tuple[PlannedLabel, ...] = ()
    categories: tuple[Mapping[str, Any], ...] = ()

    @property
    def volumes(self) -> tuple[PlannedVolume, ...]:
        """All series of the case, images first, each under the name of its volume."""
        labels = (PlannedVolume(label.name, label.root, s) for label in self.labels for s in label.series)
        return (*self.images, *labels)


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """Everything that an import will do, and what it will not do and why. It names files: as private as they are.

    Attributes
    ----------
    root : the folder that was searched.
    cases : in order of their names.
    verdicts : for the sources that are not part of a case.
    disguise : how sources may be named, see `ImportOptions.phi`; ``disguise.aliases`` leads from pseudonyms back.
    """

    root: str
    cases: tuple[CasePlan, ...]
    verdicts: tuple[Verdict, ...]
    options: ImportOptions = field(default_factory=ImportOptions)
    disguise: Disguise = field(default_factory=lambda: Disguise(Privacy("keep")))


def plan_import(source: str | Path, options: ImportOptions | None = None) -> ImportPlan:
    """Search `source` (a folder or one file) and plan its cases; reads names and headers only.

    Raises
    ------
    SourceError : when `source` or the label folder does not exist.
    CategoryError : when a ``dataset.json`` makes no sense.
    OptionError : when the key file is no key.
    """
    options = options or ImportOptions()
    privacy = Privacy.of(options)
    return privacy.shield(lambda: _plan(source, options, privacy))


def _plan(source: str | Path, options: ImportOptions, privacy: Privacy) -> ImportPlan:
    root, files = list_files(source)
    label_root, label_files = list_files(options.labels) if options.labels else (root, [])
    given = {label_root / file for file in label_files}
    files = [file for file in files if root / file not in given]
    tables = read_tables(root, files)
    used = {f"{folder}/dataset.json".lstrip("/") for folder in tables} & set(files)
    with privacy.quiet():
        series, verdicts, dicom = _scan(root, [file for file in files if file not in used], options)
    verdicts += [Verdict(file, "skipped", "dataset-json", "its names are used") for file in sorted(used)]
    places = place_series([s for s in series if s.axes], str(root), tables)
    structures = [(s, str(root)) for s in series if not s.axes]
    if options.labels:
        # Images and labels often have the same names; verdicts must tell them apart.
        with privacy.quiet():
            found, more, also = _scan(label_root, label_files, options, prefix="(labels) ")
        verdicts, dicom = verdicts + more, dicom | also
        name = Path(options.labels).resolve().name.split(".")[0]
        places = [replace(p, group="") for p in places if p.role == "image"]
        places += [Place(s, "label", "", s.key, name, s.name, str(label_root)) for s in found if s.axes]
        structures += [(s, str(label_root)) for s in found if not s.axes]
    cases, orphans = _pair(places, tables, options, privacy)
    cases, strays = _add_structures(cases, structures)
    return _disguised(ImportPlan(str(root), tuple(cases), (*verdicts, *orphans, *strays), options), privacy, dicom)


def _disguised(plan: ImportPlan, privacy: Privacy, dicom: set[str]) -> ImportPlan:
    """The plan with pseudonyms for the sources that its profile hides; `dicom` are those of DICOM."""
    volumes = [volume for case in plan.cases for volume in case.volumes]
    aliases = {v.series.source: f"series-{privacy.digest('source', v.series.source, 12)}" for v in volumes}
    for verdict in plan.verdicts:
        aliases.setdefault(verdict.source, f"file-{privacy.digest('source', verdict.source, 12)}")
    if not privacy.strict:
        # What no reader knows may be a letter or a report that was exported with the images.
        unknown = {v.source for v in plan.verdicts if v.code == "unknown-format"} if dicom else set()
        hidden = dicom | unknown if privacy.profile == "research" else set()
        aliases = {source: alias for source, alias in aliases.items() if source in hidden}
    names = frozenset(case.name for case in plan.cases) | {volume.name for volume in volumes}
    disguise = Disguise(privacy, aliases, names)
    return replace(
        plan,
        cases=tuple(_disguised_case(case, disguise) for case in plan.cases),
        verdicts=tuple(map(disguise.shown, plan.verdicts)),
        disguise=disguise,
    )


def _disguised_case(case: CasePlan, disguise: Disguise) -> CasePlan:
    images = tuple(replace(image, series=disguise.disguised(image.series)) for image in case.images)
    labels = tuple(replace(p, series=tuple(map(disguise.disguised, p.series))) for p in case.labels)
    return replace(case, images=images, labels=labels)


def list_files(source: str | Path) -> tuple[Path, list[str]]:
    """The root folder and, relative to it, all files below in sorted order; a single file is its folder's only one.

    Hidden files, hidden folders and bundles are passed over, and links that lead out of the root are not followed.
    """
    path = Path(source)
    if path.is_file():
        return path.parent.absolute(), [path.name]
    if not path.is_dir():
        raise SourceError(f"there is no folder or file {source}", code="no-such-source")
    root = path.absolute()
    real = root.resolve()
    files = []
    for folder, folders, names in os.walk(root):
        if JOURNAL_NAME in names:
            # A bundle: what an import wrote is no source.
            folders.clear()
            continue
        folders[:] = sorted(n for n in folders if not n.startswith("."))
        below = Path(folder).relative_to(root).as_posix()
        for entry in os.scandir(folder):
            # Folders that are links are not descended: only a link to a file can lead out.
            leads_out = entry.is_symlink() and not Path(entry).resolve().is_relative_to(real)
            if entry.is_file() and not leads_out and not entry.name.startswith("."):
                files.append(entry.name if below == "." else f"{below}/{entry.name}")
    return root, sorted(files)


def _scan(
    root: Path, files: Sequence[str], options: ImportOptions, prefix: str = ""
) -> tuple[list[Series], list[Verdict], set[str]]:
    """What the readers find, under sources that begin with `prefix`; last those sources that are DICOM."""
    series: list[Series] = []
    verdicts: list[Verdict] = []
    dicom: set[str] = set()
    left = list(files)
    for reader in readers().values():
        scan = reader.scan(root, left, options.reading)
        series += (replace(s, source=prefix + s.source) for s in scan.series)
        verdicts += (replace(v, source=prefix + v.source) for v in scan.verdicts)
        dicom |= {prefix + s.source for s in scan.series if from_dicom(s)}
        dicom |= {prefix + v.source for v in scan.verdicts if is_dicom_reader(reader.name)}
        left = [f for f in left if f not in scan.claimed]
    message = f"no reader recognises it (there are {', '.join(readers())})"
    for file in left:
        unknown = archive_verdict(root, file) or Verdict(file, "skipped", "unknown-format", message)
        verdicts.append(replace(unknown, source=prefix + file))
    return series, verdicts, dicom


def _pair(
    places: Sequence[Place], tables: Mapping[str, DatasetTable], options: ImportOptions, privacy: Privacy
) -> tuple[list[CasePlan], list[Verdict]]:
    """Cases of the images that share group and key, with the labels of the same group and key.

    In a group of a single case its labels need no common name: one label map, or one mask per structure.
    """
    images = _images_by_case([place for place in places if place.role == "image"])
    labels: dict[tuple[str, str], list[Place]] = {}
    for place in places:
        if place.role == "label":
            labels.setdefault((place.group, place.key), []).append(place)
    planned: dict[tuple[str, str], list[PlannedLabel]] = {at: [] for at in images}
    orphans = []
    for at, members in _match(images, labels).items():
        if at is None:
            orphans += [_refusal(p, "no-image-for-label", f"no image of the same name ({p.key!r})") for p in members]
        else:
            planned[at], doubled = _plan_labels([named_label(p, options, privacy) for p in members])
            orphans += [_refusal(p, "label-name-taken", "its image has another label of that name") for p in doubled]
    names = case_names([proposed_name(at, members[0], options, privacy) for at, members in images.items()])
    cases = []
    for name, (at, members) in zip(names, images.items(), strict=True):
        volumes = tuple(PlannedVolume(image_name(p, options, privacy), p.root, p.series) for p in members)
        table = tables.get(at[0])
        cases.append(CasePlan(name, volumes, tuple(planned[at]), privacy.table(table.categories if table else ())))
    return sorted(cases, key=lambda case: case.name), orphans


def _images_by_case(images: Iterable[Place]) -> dict[tuple[str, str], list[Place]]:
    """Images with names of their own (channels) and one key share a case; others are cases of their own."""
    cases: dict[tuple[str, str], list[Place]] = {}
    for place in images:
        cases.setdefault((place.group, place.key), []).append(place)
    for at, members in list(cases.items()):
        if len(members) > 1 and (not all(p.name for p in members) or len({p.name for p in members}) < len(members)):
            del cases[at]
            cases |= {(p.group, f"{p.key}#{p.series.source}"): [p] for p in members}
    return cases


def _match(
    images: Mapping[tuple[str, str], list[Place]], labels: Mapping[tuple[str, str], list[Place]]
) -> dict[tuple[str, str] | None, list[Place]]:
    """Labels by the case they belong to; None for those that belong to none."""
    in_group = Counter(group for group, _ in images)
    matched: dict[tuple[str, str] | None, list[Place]] = {}
    for (group, key), members in labels.items():
        at: tuple[str, str] | None = (group, key)
        if at not in images:
            lone = [case for case in images if case[0] == group] if in_group[group] == 1 else []
            at = lone[0] if lone and lone[0] not in labels else None
        matched.setdefault(at, []).extend(members)
    for at, members in matched.items():
        if at is not None and len(members) == 1 and members[0].key != at[1]:
            place = members[0]
            doubt = f"paired with {images[at][0].series.source}, the only image, though their names differ"
            series = replace(place.series, warnings=(*place.series.warnings, doubt))
            matched[at] = [replace(place, series=series)]
    return matched


def _plan_labels(members: Sequence[Place]) -> tuple[list[PlannedLabel], list[Place]]:
    """The label volumes of a case, one per folder, and the labels whose name is taken.

    Several files of one folder are masks of one structure each, unless they have one name.
    """
    volumes: dict[str, list[Place]] = {}
    for place in members:
        if not place.alone:
            volumes.setdefault(slug(place.name), []).append(place)
    planned = [PlannedLabel(slug(p.name), p.root, (p.series,), "map") for p in members if p.alone]
    doubled: list[Place] = []
    for name, found in volumes.items():
        masks = len({p.key for p in found}) == len(found) and len({p.name for p in found}) == 1
        if not masks:
            found, rest = found[:1], found[1:]
            doubled += rest
        kind = "masks" if len(found) > 1 else "map"
        planned.append(PlannedLabel(name, found[0].root, tuple(p.series for p in found), kind))
    return planned, doubled


def _refusal(place: Place, code: str, message: str) -> Verdict:
    series = place.series
    hint = "; name image and label alike" if code == "no-image-for-label" else ""
    return Verdict(series.source, "refused", code, message + hint, files=len(series.files))


def same_source(image: Series, structures: Series) -> bool:
    """True when a reader that finds both in one source gave them one key."""
    return (image.reader, image.key) == (structures.reader, structures.key)


def _add_structures(
    cases: Sequence[CasePlan], structures: Sequence[tuple[Series, str]]
) -> tuple[list[CasePlan], list[Verdict]]:
    """Structures (DICOM SEG, RTSTRUCT) go to the case of the image series they name, else of their only frame mate."""
    planned = list(cases)
    strays = []
    for series, root in structures:
        named = [i for i, case in enumerate(planned) if case.images[0].series.uid in series.refers_to]
        mates = [i for i, case in enumerate(planned) if series.frame and case.images[0].series.frame == series.frame]
        hits = [i for i in named if i in mates] if named else mates
        if not series.frame:
            hits = [i for i, case in enumerate(planned) if same_source(case.images[0].series, series)]
        if len(hits) == 1:
            label = PlannedLabel(slug(series.modality.lower()), root, (series,), "structures")
            planned[hits[0]] = replace(planned[hits[0]], labels=(*planned[hits[0]].labels, label))
            continue
        code, message = "no-image-for-structures", "the image series they were drawn on is not among the sources"
        if named and not mates:
            code, message = "other-frame", "they have another frame of reference than the image series they name"
        elif len(hits) > 1:
            code, message = "many-images-for-structures", f"{len(hits)} image series share their frame of reference"
        strays.append(Verdict(series.source, "refused", code, message, files=len(series.files)))
    return planned, strays
