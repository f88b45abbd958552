"""The answers of the viewer: a path and its parameters in, bytes out. Nothing here knows of sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from ndvol.catalog import CaseRecord, Catalog
from ndvol.errors import NdvolError, OptionError, UnknownNameError, WindowError
from ndvol.viewer.draws import MAX_DRAWS, Draws, draw_windows
from ndvol.viewer.parameters import Query, name_of, refused
from ndvol.viewer.scene import (
    bundle_facts,
    case_rows,
    case_scene,
    content_key,
    object_rows,
    preset_rows,
)
from ndvol.viewer.tiles import MAX_STEP, TILE, Tile, is_colour, read_tile
from ndvol.viewer.voxels import voxel_facts
from ndvol.volumes import Case, Volume

ASSETS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Files of the page, by the end of their names."""
NOT_KEPT = "no-store"
"""For all but the files of the page: no voxel of a patient stays on the browser's disk."""
KEPT_CASES = 8
"""Cases that stay open for the next tile."""
MANY = 2**40
"""More than any index."""
MAX_TILES = MANY // TILE


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the browser."""

    body: bytes
    type: str = "application/json"
    status: int = 200
    cache: str = NOT_KEPT
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(value: Any, status: int = 200) -> Answer:
    """`value` as JSON."""
    # Not a number has no place in JSON; values of voxels are sent as text where they are that.
    return Answer(json.dumps(value, allow_nan=False).encode(), status=status)


def error_answer(error: Exception) -> Answer:
    """An error as JSON: 400 for a parameter, 404 for a name, 422 for what cannot be drawn, 500 for trouble on disk."""
    if isinstance(error, OptionError | WindowError):
        status = 400
    elif isinstance(error, UnknownNameError):
        status = 404
    else:
        status = 422 if isinstance(error, NdvolError) and not isinstance(error, OSError) else 500
    code = error.code if isinstance(error, NdvolError) else "store"
    facts = (
        {"parameter": error.facts["parameter"]} if isinstance(error, OptionError) and "parameter" in error.facts else {}
    )
    return json_answer({"error": str(error) or type(error).__name__, "code": code, **facts}, status)


class Routes:
    """The answers for one catalogue.

    Parameters
    ----------
    catalog : whose cases are shown.
    case : name of the one to show first; the catalogue's first by default.

    Raises
    ------
    UnknownNameError : when there is no such case, or none at all.
    """

    def __init__(self, catalog: Catalog, case: str | None = None) -> None:
        self._catalog = catalog
        first = case if case is not None else next(iter(catalog), None)
        if first is None:
            raise UnknownNameError(f"there is no case in {catalog.path or 'the catalogue'}", hint="import some")
        self._first = catalog.record(first).name
        # A plane is a dozen tiles, and opening a case takes as long as reading one.
        self._kept = lru_cache(KEPT_CASES)(catalog.__getitem__)
        self._table: dict[str, tuple[Callable[[Query], Answer], tuple[str, ...]]] = {
            "api/bundle": (self._bundle, ()),
            "api/cases": (self._cases, ("find", "first")),
            "api/case": (self._case, ("case",)),
            "api/objects": (self._objects, ("case", "find", "first")),
            "api/presets": (self._presets, ("case", "image")),
            "api/tile": (self._tile, ("case", "key", "volume", "across", "at", "tile", "steps", "level", "t", "c")),
            "api/voxel": (self._voxel, ("case", "image", "at", "t", "c")),
            "api/windows": (
                self._windows,
                ("case", "window", "categories", "positive", "negative", "max_overlap", "seed"),
            ),
        }

    def answer(self, path: str, query: str) -> Answer | None:
        """The answer to a path below the page's; None when there is nothing.

        Errors of the request and of the data are answers too.
        """
        if path in self._assets:
            return self._assets[path]
        if path not in self._table:
            return None
        act, names = self._table[path]
        try:
            return act(Query(query, names))
        except (NdvolError, OSError, MemoryError) as error:
            return error_answer(error)

    @cached_property
    def _assets(self) -> dict[str, Answer]:
        """The files of the page, all read once: no path of a request is ever looked for on disk."""
        found = {}
        for file in (files("ndvol.viewer") / "assets").iterdir():
            suffix = file.name[file.name.rfind(".") :]
            if suffix in ASSETS:
                body = file.read_bytes()
                tag = {"ETag": f'"{sha256(body).hexdigest()[:16]}"'}
                name = "" if file.name == "page.html" else f"assets/{file.name}"
                found[name] = Answer(body, f"{ASSETS[suffix]}; charset=utf-8", cache="no-cache", headers=tag)
        return found

    def _bundle(self, query: Query) -> Answer:
        return json_answer(bundle_facts(self._catalog, self._first))

    def _cases(self, query: Query) -> Answer:
        return json_answer(case_rows(self._catalog, query.text("find", ""), query.whole("first", 0, MANY, 0)))

    def _case(self, query: Query) -> Answer:
        record, case = self._open(query)
        return json_answer(case_scene(self._catalog, record, case))

    def _objects(self, query: Query) -> Answer:
        record = self._catalog.record(query.text("case"))
        first = query.whole("first", 0, MANY, 0)
        return json_answer(object_rows(self._catalog, record, query.text("find", ""), first))

    def _presets(self, query: Query) -> Answer:
        _, case = self._open(query)
        return json_answer(preset_rows(case.images[name_of(query, "image", tuple(case.images))]))

    def _tile(self, query: Query) -> Answer:
        record, case = self._open(query)
        key = content_key(record)
        if query.text("key", "") != key:
            raise refused("key", f"is {query.text('key', '')[:40]!r}", f"{key!r}, the content of this case")
        kinds: dict[str, Volume] = {f"images/{name}": volume for name, volume in case.images.items()}
        kinds |= {f"labels/{name}": volume for name, volume in case.labels.items()}
        volume = kinds[query.choice("volume", tuple(kinds))]
        samples = read_tile(volume, _tile_of(query, volume))
        shape = ",".join(str(n) for n in samples.shape)
        return Answer(
            samples.tobytes(),
            "application/octet-stream",
            headers={"X-Tile-Shape": shape},
        )

    def _voxel(self, query: Query) -> Answer:
        _, case = self._open(query)
        image = case.images[name_of(query, "image", tuple(case.images))]
        at = query.wholes("at", len(image.grid.spatial), -MANY, MANY)
        return json_answer(voxel_facts(case, image, at, _others(query, image)))

    def _windows(self, query: Query) -> Answer:
        case = query.text("case", "")
        catalog = self._catalog.subset([case]) if case else self._catalog
        draws = Draws(
            query.wholes("window", None, 1, 2**20),
            query.names("categories"),
            query.whole("positive", 0, MAX_DRAWS, 8),
            query.whole("negative", 0, MAX_DRAWS, 8),
            query.share("max_overlap", 0.0),
            query.whole("seed", 0, MANY, 0),
        )
        return json_answer(draw_windows(catalog, draws))

    def _open(self, query: Query) -> tuple[CaseRecord, Case]:
        record = self._catalog.record(query.text("case"))
        return record, self._kept(record.name)


def _tile_of(query: Query, volume: Volume) -> Tile:
    """The tile that is asked for, with every index inside the volume."""
    level = query.whole("level", 0, volume.levels - 1, 0)
    spatial = [volume.axes[i] for i in volume.grid.spatial]
    if len(spatial) < 2:
        raise refused("volume", f"has only the axes {volume.axes!r}", "a volume with planes")
    across = query.choice("across", spatial if len(spatial) == 3 else ("",), "")
    shape = dict(zip(volume.axes, volume.level_grid(level).shape, strict=True))
    at = query.whole("at", 0, shape[across] - 1) if across else 0
    row, column = query.wholes("tile", 2, 0, MAX_TILES)
    down, right = query.wholes("steps", 2, 1, MAX_STEP)
    others = _others(query, volume)
    if missing := [a for a in volume.axes if a in "tc" and a not in others and not (a == "c" and is_colour(volume))]:
        raise refused(missing[0], "is missing", f"an index, for the axes {volume.axes!r}")
    return Tile(across, at, (row, column), (down, right), others, level)


def _others(query: Query, volume: Volume) -> dict[str, int]:
    """The index on t and c that is asked for, as far as the volume has these axes."""
    lengths = dict(zip(volume.axes, volume.shape, strict=True))
    return {a: query.whole(a, 0, lengths[a] - 1) for a in "tc" if a in lengths and query.text(a, "") != ""}
