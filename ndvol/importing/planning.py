"""Planning: search the sources, see what is in them, and say which cases they make."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from ndvol.errors import SourceError
from ndvol.formats import Reader, Scan, Series, readers
from ndvol.formats.archives import archive_verdict
from ndvol.importing.bids import find_lookups, is_sidecar, lookup_of, read_lookup
from ndvol.importing.layouts import Place, bids_datasets, label_place, place_series, read_tables
from ndvol.importing.options import ImportOptions
from ndvol.importing.pairing import add_structures, pair
from ndvol.importing.plan import CasePlan, ImportPlan
from ndvol.importing.privacy import Disguise, Privacy, from_dicom, is_dicom_reader
from ndvol.opening import JOURNAL_NAME
from ndvol.verdict import Verdict

LABELS = "(labels) "
"""What sources of the label folder begin with."""
TOP = "(top folder)"
"""The source of what lies in several files of the root itself."""


def plan_import(source: str | Path, options: ImportOptions | None = None, *, jobs: int = 0) -> ImportPlan:
    """Search `source` (a folder or one file) and plan its cases; reads names and headers only.

    `jobs` is how many processes may read headers, where there are enough files to pay for them; the plan is the same
    for any number.

    Raises
    ------
    SourceError : when `source` or the label folder does not exist.
    CategoryError : when a ``dataset.json`` makes no sense.
    OptionError : when the key file is no key.
    """
    options = options or ImportOptions()
    privacy = Privacy.of(options)
    return privacy.shield(lambda: _plan(source, options, privacy, jobs))


def _plan(source: str | Path, options: ImportOptions, privacy: Privacy, jobs: int) -> ImportPlan:
    root, files = list_files(source, follow_links=options.follow_links)
    label_root, label_files = root, list[str]()
    if options.labels:
        label_root, label_files = list_files(options.labels, follow_links=options.follow_links)
    given = {label_root / file for file in label_files}
    files = [file for file in files if root / file not in given]
    tables = read_tables(root, files)
    used = {f"{folder}/dataset.json".lstrip("/") for folder in tables} & set(files)
    with privacy.quiet():
        series, verdicts, dicom = _scan(root, [file for file in files if file not in used], options, jobs)
    verdicts += [Verdict(file, "skipped", "dataset-json", "its names are used") for file in sorted(used)]
    broken = _refused_series(verdicts, dicom, files)
    places = place_series([*(s for s in series if s.axes), *broken], str(root), tables)
    datasets = bids_datasets(places)
    places, lookups = _with_lookups(places, root, files)
    structures = [(s, str(root)) for s in series if not s.axes]
    if options.labels:
        # Images and labels often have the same names; verdicts must tell them apart.
        with privacy.quiet():
            found, more, also = _scan(label_root, label_files, options, jobs, prefix=LABELS)
        broken_labels = _refused_series(more, also, label_files, prefix=LABELS)
        name = Path(options.labels).resolve().name.split(".")[0]
        labels = [label_place(s, name, str(label_root)) for s in (*found, *broken_labels) if s.axes or not s.reader]
        labels, also_used = _with_lookups(labels, label_root, label_files, prefix=LABELS)
        more += [_passed_over(p.series) for p in places if p.role == "label" and p.series.reader]
        places, lookups = [*(p for p in places if p.role == "image"), *labels], [*lookups, *also_used]
        structures += [(s, str(label_root)) for s in found if not s.axes]
        broken, verdicts, dicom = [*broken, *broken_labels], [*verdicts, *more], dicom | also
    codes = {verdict.source: verdict.code for verdict in verdicts}
    cases, orphans = pair(places, {s.source: codes[s.source] for s in broken}, tables, options, privacy)
    cases, strays = add_structures(cases, structures)
    verdicts = _without_sidecars(verdicts, lookups, datasets)
    return _disguised(ImportPlan(str(root), tuple(cases), (*verdicts, *orphans, *strays), options), privacy, dicom)


def _refused_series(
    verdicts: Sequence[Verdict], dicom: Set[str], files: Sequence[str], prefix: str = ""
) -> list[Series]:
    """What readers refused, as series of no reader, so that it has its place in the layout; paths place no DICOM."""
    folders = {file.rpartition("/")[0]: file for file in reversed(files)}
    known, refused = set(files), []
    for verdict in verdicts:
        path = verdict.source.removeprefix(prefix)
        file = path if path in known else folders.get(path)
        unread = verdict.status == "refused" and verdict.code != "archive" and verdict.source not in dicom
        if file is None or not unread:
            continue
        # Without suffix, as readers have it: ``a.nii.gz`` is called ``a``, a folder like itself.
        stem = re.sub(r"(\.[^./]+)?(\.gz)?$", "", path, flags=re.IGNORECASE) if file == path else path
        name = stem.rpartition("/")[2]
        refused.append(Series("", verdict.source, (file,), stem, name, "", "", (), "", None))
    return refused


def _passed_over(series: Series) -> Verdict:
    message = "labels come from the folder that was given for them"
    return Verdict(series.source, "skipped", "other-labels", message, files=len(series.files))


def _with_lookups(
    places: Sequence[Place], root: Path, files: Sequence[str], prefix: str = ""
) -> tuple[list[Place], list[Verdict]]:
    """Segmentations of BIDS with the names of their values, and a verdict for each table that has them."""
    lookups = find_lookups(files)
    names: dict[str, Mapping[int, str]] = {}
    verdicts = []
    named = []
    for place in places:
        segments = place.role == "label" and place.whole and place.series.name.endswith("_dseg")
        file = lookup_of(place.series.files[0], place.series.name, lookups) if segments else None
        if file and file not in names:
            try:
                names[file] = read_lookup(root, file)
                verdicts.append(Verdict(prefix + file, "skipped", "bids-lookup", "its names are used"))
            except SourceError as error:
                names[file] = {}
                verdicts.append(Verdict.refused(prefix + file, error))
        named.append(replace(place, names=names.get(file or "", {})))
    return named, verdicts


def _without_sidecars(
    verdicts: Sequence[Verdict], lookups: Sequence[Verdict], datasets: Iterable[str]
) -> list[Verdict]:
    """The verdicts with those for the files that describe images of BIDS under their own code."""
    told = {verdict.source for verdict in lookups}
    kept = []
    for verdict in verdicts:
        if verdict.code == "unknown-format" and is_sidecar(verdict.source, datasets):
            verdict = replace(verdict, code="bids-sidecar", message="describes an image; it is not read")
        if verdict.source not in told:
            kept.append(verdict)
    return [*kept, *lookups]


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
    names = {case.name for case in plan.cases}.union(*([v.name, *v.images] for v in volumes))
    disguise = Disguise(privacy, aliases, frozenset(names))
    return replace(
        plan,
        cases=tuple(_disguised_case(case, disguise) for case in plan.cases),
        verdicts=tuple(map(disguise.shown, plan.verdicts)),
        disguise=disguise,
    )


def _disguised_case(case: CasePlan, disguise: Disguise) -> CasePlan:
    images = tuple(replace(image, series=disguise.disguised(image.series)) for image in case.images)
    labels = tuple(replace(p, series=tuple(map(disguise.disguised, p.series))) for p in case.labels)
    lost = tuple(replace(label, source=disguise.alias(label.source)) for label in case.lost)
    return replace(case, images=images, labels=labels, lost=lost)


def root_of(source: str | Path) -> Path:
    """The folder that a source is, or that it lies in when it is a file."""
    path = Path(source)
    if not path.is_file() and not path.is_dir():
        raise SourceError(f"there is no folder or file {source}", code="no-such-source")
    return (path.parent if path.is_file() else path).absolute()


def list_files(source: str | Path, *, follow_links: bool = False) -> tuple[Path, list[str]]:
    """The root folder and, relative to it, all files below in sorted order; a single file is its folder's only one.

    Hidden files, hidden folders and bundles are passed over. Links to files that lead out of the root are passed over
    unless `follow_links`; links to folders always are.
    """
    root = root_of(source)
    if Path(source).is_file():
        return root, [Path(source).name]
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
            if entry.is_file() and (follow_links or not leads_out) and not entry.name.startswith("."):
                files.append(entry.name if below == "." else f"{below}/{entry.name}")
    return root, sorted(files)


def _scan(
    root: Path, files: Sequence[str], options: ImportOptions, jobs: int, prefix: str = ""
) -> tuple[list[Series], list[Verdict], set[str]]:
    """What the readers find, under sources that begin with `prefix`; last those sources that are DICOM."""
    series: list[Series] = []
    verdicts: list[Verdict] = []
    dicom: set[str] = set()
    left = list(files)
    for reader in readers().values():
        scan = _guarded(reader, root, left, options, jobs)
        found = [replace(s, source=prefix + _readable(s.source)) for s in scan.series]
        said = [replace(v, source=prefix + _readable(v.source)) for v in scan.verdicts]
        series, verdicts = series + found, verdicts + said
        dicom |= {s.source for s in found if from_dicom(s)}
        dicom |= {v.source for v in said if is_dicom_reader(reader.name)}
        left = [f for f in left if f not in scan.claimed]
    message = f"no reader recognises it (there are {', '.join(readers())})"
    for file in left:
        unknown = archive_verdict(root, file) or Verdict(file, "skipped", "unknown-format", message)
        verdicts.append(replace(unknown, source=prefix + file))
    return series, verdicts, dicom


def _guarded(reader: Reader, root: Path, files: Sequence[str], options: ImportOptions, jobs: int) -> Scan:
    """What a reader finds; when one of another package fails, nothing, so that the others get its files."""
    try:
        return reader.scan(root, files, options.reading, jobs=jobs)
    except Exception as error:
        if type(reader).__module__.startswith("ndvol."):
            raise  # nobody else would read those formats
        message = f"the reader {reader.name!r} failed, and the others got its files; got {error!r}"
        return Scan(verdicts=(Verdict(f"(reader {reader.name})", "skipped", "reader-failed", message, files=0),))


def _readable(source: str) -> str:
    """The source of a reader with a name for the root, which readers call ``.``."""
    return TOP + source[1:] if source == "." or source.startswith(".#") else source
