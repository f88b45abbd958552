"""Carrying out a plan: cases in worker processes, a journal that survives a kill, and the catalogue last of all."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ndvol.catalog import CATALOG_NAME, Catalog, coco_from_records, load_coco
from ndvol.categories import CategoryTree
from ndvol.errors import CatalogError, ImportFailedError, NdvolError, OptionError, SourceError, StoreError
from ndvol.importing.case import ImportedCase, import_case
from ndvol.importing.journal import Journal, replace_file
from ndvol.importing.options import ImportOptions
from ndvol.importing.phi_map import write_phi_map
from ndvol.importing.plan import CasePlan, ImportPlan
from ndvol.importing.planning import plan_import
from ndvol.importing.privacy import Privacy
from ndvol.importing.record import describe_case
from ndvol.importing.workers import KeptOpen, attempt_all
from ndvol.opening import open_case as open_record
from ndvol.opening import open_catalog
from ndvol.store import open_case, read_objects
from ndvol.verdict import Verdict
from ndvol.volumes import Case

VOLUMES = "volumes"
LOCK_PATIENCE_S = 5.0
"""How long the workers of an import that was killed may take to follow it."""


def import_tree(
    source: str | Path,
    bundle: str | Path,
    *,
    options: ImportOptions | None = None,
    jobs: int = 0,
    progress: bool = False,
) -> Catalog:
    """Import all that can be imported below `source` into the folder `bundle`, and open it.

    Cases whose sources and options have not changed since an earlier run are not decoded again. Cases that the
    bundle already holds stay in it, also when their sources are gone; delete a case's file to take it out.

    Parameters
    ----------
    source : a folder of any depth, or one file.
    bundle : the folder to write; made when it is not there.
    jobs : worker processes; each holds one case at a time, and a decoder that crashes or never ends takes only its
        worker along: the case is refused with code ``worker-died`` or ``timed-out``, see `workers.CPU_S`.
        A script needs the usual ``if __name__ == "__main__":`` then. 0 imports in this process.
    progress : show a progress bar on stderr.

    Returns
    -------
    the catalogue of the whole bundle; its `verdicts` say what happened to every source of this run. The bundle's
    ``import.jsonl`` holds those of all runs.

    Raises
    ------
    ImportFailedError : when nothing at all could be imported.
    StorageFullError, StoreError : when the bundle cannot be written; what was published before stays valid.
    SourceError : when `source` does not exist.
    """
    return run_import(plan_import(source, options, jobs=jobs), bundle, jobs=jobs, progress=progress)


def run_import(plan: ImportPlan, bundle: str | Path, *, jobs: int = 0, progress: bool = False) -> Catalog:
    """Carry out a plan; see `import_tree`."""
    folder = Path(bundle).absolute()
    hidden = plan.disguise
    return hidden.privacy.shield(lambda: _run(plan, folder, jobs, progress), hidden.aliases, str(folder))


def _run(plan: ImportPlan, folder: Path, jobs: int, progress: bool) -> Catalog:
    volumes = folder / VOLUMES
    _refuse_key_inside(plan.options.phi_key, folder)
    write_phi_map(plan, folder)
    with _storage_errors(folder):
        volumes.mkdir(parents=True, exist_ok=True)
        with _only_writer(folder) as lock:
            _refuse_foreign(folder)
            journal = Journal(folder, plan)
            with _no_remains(volumes):
                _import_cases(plan, volumes, journal, jobs=jobs, lock=lock, progress=progress)
            coco = _describe_bundle(folder, journal, plan)
            journal.finish(volumes)
            # Last, when all that it names is there.
            replace_file(folder / CATALOG_NAME, json.dumps(coco, ensure_ascii=False, indent=1).encode())
    if not any(v.case for v in journal.verdicts):
        reasons = "; ".join(f"{v.source}: {v.message}" for v in journal.verdicts[:5])
        raise ImportFailedError(
            f"nothing could be imported from {plan.root}", got=reasons or "no files", verdicts=journal.verdicts
        )
    catalog = open_catalog(folder)
    return Catalog(catalog.records, catalog.categories, open_record, path=catalog.path, verdicts=journal.verdicts)


def _refuse_key_inside(key: str | None, folder: Path) -> None:
    """Raise when the key of the pseudonyms would travel with the bundle."""
    if key and Path(key).resolve().is_relative_to(folder.resolve()):
        raise OptionError(
            "the key file lies inside the bundle, where whoever gets the bundle could undo the pseudonyms",
            hint="keep it elsewhere",
            code="phi-key",
        )


def _refuse_foreign(folder: Path) -> None:
    """Raise rather than replace a catalogue that holds what no import wrote."""
    path = folder / CATALOG_NAME
    data = load_coco(path) if path.is_file() else {}
    rows = [row for table in ("images", "annotations") for row in data.get(table) or []]
    if not all(isinstance(row, dict) and "ndvol" in row for row in rows):
        raise CatalogError(
            f"{path} holds images or annotations that no import wrote, and would be replaced",
            hint="give your own catalogue another name, or import into another folder",
            code="foreign-catalogue",
        )


def _import_cases(
    plan: ImportPlan, volumes: Path, journal: Journal, *, jobs: int, lock: KeptOpen, progress: bool
) -> None:
    for verdict in plan.verdicts:
        journal.add(verdict)
    todo = []
    for case in plan.cases:
        if state := journal.unchanged(case, plan.options, volumes):
            journal.add_case(ImportedCase(case.name, journal.still(case), state))
        else:
            todo.append(case)
    guarded = {case.name for case in todo if journal.belongs_to_other_root(case.name)}
    attempt = partial(_attempt, plan.options, volumes, guarded)
    with (
        closing(attempt_all(todo, attempt, jobs, lock=lock)) as outcomes,  # an error or Ctrl-C in here ends the workers
        tqdm(total=len(plan.cases), unit="case", disable=None if progress else True) as bar,
    ):
        bar.update(len(plan.cases) - len(todo))
        for case, outcome in outcomes:
            if isinstance(outcome, ImportedCase):
                journal.add_case(outcome)
            elif isinstance(outcome, StoreError):
                raise outcome  # the target fails, not the source: no other case would do better
            else:
                journal.add_refused(case, outcome)
            bar.update()


def _attempt(options: ImportOptions, volumes: Path, guarded: set[str], case: CasePlan) -> ImportedCase | NdvolError:
    """Import one case; what is wrong with it is an answer, so that the others go on."""
    try:
        with Privacy.of(options).quiet():
            return import_case(case, options, volumes, may_replace=case.name not in guarded)
    except NdvolError as error:
        return error
    except MemoryError as error:
        return SourceError(f"case {case.name!r} does not fit into memory", got=error, code="out-of-memory")
    except Exception as error:
        # A bug of ours or of a library may cost its own case, never the others.
        return SourceError(f"case {case.name!r} could not be imported", got=repr(error), code="internal")


def _describe_bundle(folder: Path, journal: Journal, plan: ImportPlan) -> dict[str, Any]:
    """The kwcoco dictionary of all intact cases of the bundle; a damaged one gets a verdict instead."""
    found: dict[str, tuple[Path, str, Case]] = {}
    for name, state in journal.states(folder / VOLUMES).items():
        path = folder / VOLUMES / f"{name}.h5"
        try:
            case = open_case(path)
            for label in case.labels:
                read_objects(path, label)
            found[name] = path, state["sha256"], case
        except NdvolError as error:
            hint = "delete it and run its import again"
            damage = SourceError(f"the case {name!r} of the bundle is damaged", got=error, hint=hint, code="damage")
            journal.add(Verdict.refused(f"{VOLUMES}/{path.name}", damage))
    stated = plan.options.categories or tuple(row for case in plan.cases for row in case.categories)
    tree = _category_tree(folder, [case for _, _, case in found.values()], stated)
    records = [describe_case(path, sha256, tree) for path, sha256, _ in found.values()]
    return coco_from_records(records, tree, folder)


def _category_tree(folder: Path, cases: Sequence[Case], table: Sequence[Mapping[str, Any]]) -> CategoryTree:
    """The categories of the options, of the catalogue so far, and those that label volumes name besides."""
    rows = [{"name": row["name"], "supercategory": row.get("supercategory")} for row in table]
    if (folder / CATALOG_NAME).is_file():
        rows += [{**row, "id": None} for row in open_catalog(folder).categories.to_coco()]
    for case in cases:
        for label in case.labels.values():
            rows += [{"name": label.categories[value]} for value in sorted(label.categories)]
    # The first mention counts: it may be the one with a supercategory.
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(row["name"], row)
    return CategoryTree.from_coco(first.values())


@contextmanager
def _only_writer(folder: Path) -> Iterator[KeptOpen]:
    """One import at a time per bundle; the lock goes with the process and its workers, however they end."""
    with (folder / ".lock").open("w") as stream:
        give_up = time.monotonic() + LOCK_PATIENCE_S
        while not _is_locked(stream.fileno()):
            if time.monotonic() > give_up:
                raise StoreError(f"another import is writing to {folder}", hint="wait for it, or stop it")
            time.sleep(0.05)
        yield KeptOpen(stream.fileno())


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # the file system has no locks; two imports are safe apart from doing the work twice
    return True


@contextmanager
def _no_remains(volumes: Path) -> Iterator[None]:
    """No half-written file of a process that was killed, in an earlier run or in this one, is left in `volumes`."""

    def tidy() -> None:
        for remains in [*volumes.glob("*.part"), *volumes.glob("*.room")]:
            remains.unlink(missing_ok=True)

    tidy()
    try:
        yield
    finally:
        tidy()


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    """Trouble with the bundle's own small files, in ndvol's words."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NdvolError):
            raise
        raise StoreError.from_os(error, folder) from error
