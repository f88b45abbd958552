"""Pairing: which images form a case, and which labels and structures belong to it."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from ndvol.formats import Series
from ndvol.importing.drawing import same_source
from ndvol.importing.layouts import IMAGE_FOLDERS, LABEL_FOLDERS, DatasetTable, Place
from ndvol.importing.names import case_names, image_names, label_name, numbered, proposed_name, slug
from ndvol.importing.options import ImportOptions
from ndvol.importing.plan import CasePlan, LostLabel, PlannedLabel, PlannedVolume
from ndvol.importing.privacy import Privacy
from ndvol.verdict import Verdict

At = tuple[str, str]
"""What makes a case: a folder, and what its images share below it."""


def pair(
    places: Sequence[Place],
    faults: Mapping[str, str],
    tables: Mapping[str, DatasetTable],
    options: ImportOptions,
    privacy: Privacy,
) -> tuple[list[CasePlan], list[Verdict]]:
    """The cases of all images, each with its labels, and verdicts for the sources that are in none.

    A label belongs to the case of the image with its group and key, or of the whole that it names; in a group of a
    single case its labels need no common name: one label map, or one mask per structure.

    Parameters
    ----------
    faults : source -> code of what a reader has refused. It has its place: a refused label leaves a mark at its case,
        and a refused image takes its case along, because channels that some cases lack make no data set.
    """
    if options.case_by == "folder":
        places = _by_folder(places)
    cases = form_cases([place for place in places if place.role == "image"], options.case_by)
    labels, verdicts = _match(cases, [place for place in places if place.role == "label"], bool(options.labels))
    names = case_names([proposed_name(at, members, options, privacy) for at, members in cases.items()])
    planned = []
    for name, (at, members) in zip(names, cases.items(), strict=True):
        if broken := next((p for p in members if p.series.source in faults), None):
            source = broken.series.source
            why = f"its case lacks the image {source}, which was refused ({faults[source]})"
            others = [p for p in (*members, *labels[at]) if p.series.source not in faults]
            verdicts += [_refusal(p, "image-refused", why) for p in others]
            continue
        volumes = [
            PlannedVolume(", ".join(images), p.root, p.series, images if p.channels else ())
            for p, images in zip(members, image_names(members, options, privacy), strict=True)
        ]
        named = {p.key: volume.images[0] for p, volume in zip(members, volumes, strict=True)}
        planned_labels, doubled = _plan_labels(labels[at], named, options, privacy)
        verdicts += [_refusal(p, "label-name-taken", "its image has another label of that name") for p in doubled]
        rows = [tables[p.group].categories for p in members if p.group in tables]
        maps, lost = _without_faults(planned_labels, faults)
        planned.append(CasePlan(name, tuple(volumes), maps, privacy.table(rows[0] if rows else ()), lost))
    # What is refused already needs no second verdict.
    verdicts = [verdict for verdict in verdicts if verdict.source not in faults]
    return sorted(planned, key=lambda case: case.name), verdicts


def _without_faults(
    labels: Iterable[PlannedLabel], faults: Mapping[str, str]
) -> tuple[tuple[PlannedLabel, ...], tuple[LostLabel, ...]]:
    """The labels that can be read, and those that a reader has refused."""
    good = [replace(p, series=tuple(s for s in p.series if s.source not in faults)) for p in labels]
    lost = [LostLabel(p.name, s.source, faults[s.source]) for p in labels for s in p.series if s.source in faults]
    return tuple(label for label in good if label.series), tuple(lost)


def form_cases(images: Iterable[Place], case_by: str) -> dict[At, list[Place]]:
    """Images by case, see `ImportOptions.case_by`; those of a case in an order that no name of a DICOM file decides."""
    together: dict[At, list[Place]] = {}
    alone: dict[At, list[Place]] = {}
    for place in images:
        if case_by == "series":
            alone.setdefault((place.group, place.key), []).append(replace(place, channels=(), case=place.series.name))
        elif case_by == "study" and place.series.study:
            together.setdefault(("study", place.series.study), []).append(place)
        elif case_by == "folder":
            together.setdefault((folder_of(place.series), ""), []).append(place)
        elif place.whole:
            together.setdefault((place.group, place.whole), []).append(place)
        else:
            alone.setdefault((place.group, place.key), []).append(place)
    cases = {at: sorted(members, key=lambda p: (p.series.name, p.series.source)) for at, members in together.items()}
    for (group, key), members in alone.items():
        for place in members:
            unique = len(members) == 1 and (group, key) not in cases
            cases[group, key if unique else f"{key}#{place.series.source}"] = [place]
    return cases


def folder_of(series: Series) -> str:
    """The folder that holds all files of a series; '' for the root."""
    return os.path.commonpath([f"/{file.rpartition('/')[0]}" for file in series.files])[1:]


def _by_folder(places: Iterable[Place]) -> list[Place]:
    """Places for cases that are folders: images are named by their files, and a file named like labels is a label.

    What a file's name has in common with its folder's goes (``case7/case7_flair.nii`` is ``flair``). DICOM and
    layouts with names of their own keep those.
    """
    found = []
    first: dict[str, Place] = {}
    for place in places:
        if place.role == "image":
            path = PurePosixPath(folder_of(place.series))
            folder = (path.parent if path.name.lower() in IMAGE_FOLDERS else path).name
            own = re.sub(rf"^{re.escape(folder)}[-_. ]+(?=.)", "", place.series.name)
            name = place.name or (own if not place.series.modality and len(place.series.files) == 1 else "")
            place = replace(place, name=name, case=folder or place.case)
            if name.lower() not in LABEL_FOLDERS:
                first.setdefault(folder_of(place.series), place)
        found.append(place)

    def is_label(place: Place) -> bool:
        return place.role == "image" and place.name.lower() in LABEL_FOLDERS and folder_of(place.series) in first

    return [
        replace(p, role="label", key=first[folder_of(p.series)].key, group=first[folder_of(p.series)].group)
        if is_label(p)
        else p
        for p in found
    ]


def _match(
    cases: Mapping[At, list[Place]], labels: Iterable[Place], anywhere: bool
) -> tuple[dict[At, list[Place]], list[Verdict]]:
    """Labels by the case they belong to, and verdicts for those that belong to none or cannot be told.

    With `anywhere` labels and images need no group in common: the labels come from a folder of their own.
    """
    homes: dict[At, dict[At, None]] = defaultdict(dict)
    groups: dict[str, dict[At, None]] = defaultdict(dict)
    for at, members in cases.items():
        for place in members:
            group = "" if anywhere else place.group
            groups[group][at] = None
            for key in {place.key, place.whole, _subject(place)} - {""}:
                homes[group, key][at] = None
    matched: dict[At, list[Place]] = {at: [] for at in cases}
    unmatched, verdicts = [], []
    for place in labels:
        group = "" if anywhere else place.group
        found = homes.get((group, place.key)) or homes.get((group, place.whole)) or {}
        if len(found) > 1:
            why = f"{len(found)} cases have an image of that name ({place.key!r}); give --case-by another rule"
            verdicts.append(_refusal(place, "many-images-for-label", why))
        elif found:
            matched[next(iter(found))].append(place)
        else:
            # What names its subject belongs to no other.
            unmatched.append((place, {} if place.whole else groups[group]))
    only = [next(iter(found)) if len(found) == 1 else None for _, found in unmatched]
    lone = {at for at in only if at is not None and not matched[at]}
    for (place, _), home in zip(unmatched, only, strict=True):
        if home is not None and home in lone:
            matched[home].append(place)
        else:
            why = f"no image of the same name ({place.whole or place.key!r}); name image and label alike"
            verdicts.append(_refusal(place, "no-image-for-label", why))
    for at in lone:
        if len(matched[at]) == len(cases[at]) == 1:
            [place], [image] = matched[at], cases[at]
            doubt = f"paired with {image.series.source}, the only image, though their names differ"
            series = replace(place.series, warnings=(*place.series.warnings, doubt))
            matched[at] = [replace(place, series=series)]
    return matched, verdicts


def _subject(place: Place) -> str:
    """The subject of an image of BIDS in a session: labels may be there for all sessions."""
    return place.whole.partition("_ses-")[0] if place.whole != place.key else ""


def _plan_labels(
    members: Iterable[Place], images: Mapping[str, str], options: ImportOptions, privacy: Privacy
) -> tuple[list[PlannedLabel], list[Place]]:
    """The label volumes of a case, and the labels whose name is taken; `images` are key -> name.

    Several files of one folder are label maps where each has the name of another image of the case, else masks of
    one structure each.
    """
    folders: dict[str, list[Place]] = {}
    planned: list[PlannedLabel] = []
    doubled: list[Place] = []
    for place in members:
        if place.alone:
            planned.append(_planned_map(slug(label_name(place, options, privacy)), place))
        else:
            folders.setdefault(slug(place.name), []).append(place)
    for found in folders.values():
        name = slug(label_name(found[0], options, privacy))
        keys = {p.key for p in found}
        if len(keys) < len(found):
            planned.append(_planned_map(name, found[0]))
            doubled += found[1:]
        elif len(found) > 1 and keys <= images.keys():
            planned += [_planned_map(f"{name}-{images[p.key]}", p) for p in found]
        elif len(found) > 1:
            planned.append(PlannedLabel(name, found[0].root, tuple(p.series for p in found), "masks"))
        else:
            planned.append(_planned_map(name, found[0]))
    names = numbered([label.name for label in planned])
    return [replace(label, name=name) for label, name in zip(planned, names, strict=True)], doubled


def _planned_map(name: str, place: Place) -> PlannedLabel:
    return PlannedLabel(name, place.root, (place.series,), "map", structure=place.structure, names=place.names)


def _refusal(place: Place, code: str, message: str) -> Verdict:
    return Verdict(place.series.source, "refused", code, message, files=len(place.series.files))


def add_structures(
    cases: Sequence[CasePlan], structures: Sequence[tuple[Series, str]]
) -> tuple[list[CasePlan], list[Verdict]]:
    """Structures (DICOM SEG, RTSTRUCT) go to the case of the image series they name, else of their only frame mate.

    Where several images of one case come into question, their grids decide when the structures are read.
    """
    planned = list(cases)
    by_uid: dict[str, list[tuple[int, PlannedVolume]]] = defaultdict(list)
    by_frame: dict[str, list[tuple[int, PlannedVolume]]] = defaultdict(list)
    for i, case in enumerate(cases):
        for volume in case.images:
            by_uid[volume.series.uid].append((i, volume))
            by_frame[volume.series.frame].append((i, volume))
    strays = []
    for series, root in structures:
        named = [hit for uid in series.refers_to for hit in by_uid.get(uid, ())]
        mates = by_frame.get(series.frame, []) if series.frame else []
        hits = [hit for hit in named if series.frame and hit[1].series.frame == series.frame] if named else mates
        if not series.frame and not hits:
            hits = [(i, v) for i, case in enumerate(cases) for v in case.images if same_source(v.series, series)]
        found = {i for i, _ in hits}
        if len(found) == 1:
            [at] = found
            on = tuple(name for _, volume in hits for name in volume.images)
            label = PlannedLabel(slug(series.modality.lower()), root, (series,), "structures", images=on)
            planned[at] = replace(planned[at], labels=(*planned[at].labels, label))
            continue
        code, message = "no-image-for-structures", "the image series they were drawn on is not among the sources"
        if named and not hits:
            code, message = "other-frame", "they have another frame of reference than the image series they name"
        elif hits:
            code, message = "many-images-for-structures", f"{len(found)} cases have images in their frame of reference"
        strays.append(Verdict(series.source, "refused", code, message, files=len(series.files)))
    return planned, strays
