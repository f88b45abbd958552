"""Servers of small bundles, and a way to ask them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest

from ndvol.catalog import Catalog
from ndvol.demo import CATEGORIES, make_toy
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid
from ndvol.importing import ImportOptions, import_tree
from ndvol.opening import open_catalog
from ndvol.viewer import ViewServer

TYPES = {"uint8": "u1", "int8": "i1", "uint16": "<u2", "int16": "<i2", "float32": "<f4"}


@dataclass(frozen=True)
class Client:
    """Asks a server as a browser would."""

    server: ViewServer

    def get(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[HTTPResponse, bytes]:
        """The answer to a whole path, token included."""
        connection = HTTPConnection(urlsplit(self.server.url).netloc, timeout=20)
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body

    def ask(self, route: str, **facts: object) -> tuple[int, dict]:
        """Status and JSON of a route below the token."""
        answer, body = self.get(f"/{self.server.token}/api/{route}?{urlencode(facts)}")
        return answer.status, json.loads(body)

    def tile(self, wire: str, **facts: object) -> np.ndarray:
        """The samples of a tile."""
        answer, body = self.get(f"/{self.server.token}/api/tile?{urlencode(facts)}")
        assert answer.status == 200, body
        shape = [int(n) for n in answer.headers["X-Tile-Shape"].split(",")]
        return np.frombuffer(body, TYPES[wire]).reshape(shape)


@pytest.fixture
def serve() -> Iterator[Callable[..., Client]]:
    """Starts servers, which end with the test."""
    servers: list[ViewServer] = []

    def start(catalog: Catalog, case: str | None = None) -> Client:
        server = ViewServer(catalog, case)
        servers.append(server)
        # The default of half a second is how long `shutdown` would wait.
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return Client(server)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def import_toy(folder: Path, shape: tuple[int, ...] = (21, 44, 38)) -> Path:
    """A bundle of one CT with labels, at (3, 1.5, 1.5) mm, named ``toy``; returns its folder."""
    toy = make_toy(shape, seed=3)
    grid = Grid.regular("zyx", shape, spacing=(3.0, 1.5, 1.5), origin=(-20.0, 10.0, 5.0))
    write_nifti(folder / "raw" / "images" / "toy.nii.gz", toy.image, grid)
    write_nifti(folder / "raw" / "labels" / "toy.nii.gz", toy.labels, grid)
    options = ImportOptions(categories=CATEGORIES, modality="CT", levels=3)
    import_tree(folder / "raw", folder / "bundle", options=options)
    return folder / "bundle"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle with the case ``toy``."""
    return import_toy(tmp_path_factory.mktemp("view"))


@pytest.fixture
def toy(bundle: Path, serve: Callable[..., Client]) -> Client:
    """A server of that bundle."""
    return serve(open_catalog(bundle))
