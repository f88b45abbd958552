"""The planes of many DICOM files, from their headers; in processes where there are enough files to pay for them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ndvol.errors import SourceError
from ndvol.formats.dicom_headers import Header, may_be_dicom, read_header
from ndvol.formats.dicom_planes import Reason, is_structure, planes_of, unplaced, unwanted
from ndvol.formats.dicom_series import series_uid
from ndvol.processes import deaf_while_starting, deafen

FEWEST = 500
"""Files below which processes cost more than they save: each takes about a second to start."""
_CHUNK = 64
"""Files per message between processes: enough that the messages do not count, few enough to share them evenly."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What a DICOM file holds: checked planes, or the reason or error why there are none. Picklable."""

    path: str
    planes: tuple[Header, ...] = ()
    series: str = ""
    reason: Reason | None = None
    error: SourceError | None = None


def examine(root: Path, files: Sequence[str], jobs: int) -> Iterator[Examined]:
    """The files among `files` that are DICOM and no structures, in order; the same for any number of `jobs`."""
    work = partial(examine_one, root)
    if jobs > 1 and len(files) > FEWEST:
        candidates = [path for path in files if may_be_dicom(root, path)]
        if len(candidates) > FEWEST:
            yield from filter(None, _in_processes(work, candidates, jobs))
            return
    yield from filter(None, map(work, files))


def examine_one(root: Path, path: str) -> Examined | None:
    """What one file holds; None when it is no DICOM file or belongs to another reader."""
    try:
        header = read_header(root, path)
        if header is None or is_structure(header):
            return None
        found = sort_out(root, header)
        if isinstance(found[0], Header):
            return Examined(path, planes=found)
        return Examined(path, series=series_uid(header), reason=found)
    except SourceError as error:
        return Examined(path, error=error)


def sort_out(root: Path, header: Header) -> tuple[Header, ...] | Reason:
    """The checked planes of a file, or status, code and reason why it has none."""
    if (reason := unwanted(header)) is not None:
        return reason
    planes = planes_of(root, header)
    for plane in planes:
        if (reason := unplaced(plane)) is not None:
            return reason
        plane.check()
    return planes


def _in_processes(work: partial[Examined | None], files: Sequence[str], jobs: int) -> list[Examined | None]:
    context = multiprocessing.get_context("spawn")
    try:
        workers = min(jobs, 1 + len(files) // FEWEST)
        with ProcessPoolExecutor(workers, mp_context=context, initializer=deafen) as pool:
            with deaf_while_starting():
                examined = pool.map(work, files, chunksize=_CHUNK)
            return list(examined)
    except BrokenProcessPool:  # a killed worker, or a script without a main guard: slower, but the same
        return [work(path) for path in files]
