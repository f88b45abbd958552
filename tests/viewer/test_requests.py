"""Requests that make no sense are refused, with the parameter's name."""

from __future__ import annotations

import pytest

from ndvol.toy import ToyOptions, toy_catalog

TILE = {"case": "toy-0", "volume": "images/image", "across": "z", "at": "0", "tile": "0,0", "steps": "1,1", "t": "0"}


@pytest.fixture(scope="module")
def catalog():
    return toy_catalog(2, ToyOptions("tzyx", (2, 5, 20, 30)))


@pytest.mark.parametrize(
    ("route", "facts", "parameter"),
    [
        ("case", {}, "case"),
        ("case", {"case": "x" * 1001}, "case"),
        ("cases", {"first": "-1"}, "first"),
        ("cases", {"first": "1_0"}, "first"),
        ("cases", {"first": "٣"}, "first"),
        ("cases", {"whatever": "1"}, "whatever"),
        ("presets", {"case": "toy-0", "image": "CT"}, "image"),
        ("tile", {**TILE, "volume": "images/nothing"}, "volume"),
        ("tile", {**TILE, "volume": "../../etc/passwd"}, "volume"),
        ("tile", {**TILE, "across": "t"}, "across"),
        ("tile", {**TILE, "across": ""}, "across"),
        ("tile", {**TILE, "at": "5"}, "at"),
        ("tile", {**TILE, "at": "-1"}, "at"),
        ("tile", {**TILE, "at": "1.0"}, "at"),
        ("tile", {**TILE, "level": "1"}, "level"),
        ("tile", {**TILE, "tile": "0"}, "tile"),
        ("tile", {**TILE, "tile": "0,-1"}, "tile"),
        ("tile", {**TILE, "tile": "0," + "9" * 30}, "tile"),
        ("tile", {**TILE, "steps": "0,1"}, "steps"),
        ("tile", {**TILE, "steps": "1,2048"}, "steps"),
        ("tile", {**TILE, "t": "2"}, "t"),
        ("tile", {k: v for k, v in TILE.items() if k != "t"}, "t"),
        ("tile", {**TILE, "key": "0123456789abcdef"}, "key"),
        ("voxel", {"case": "toy-0", "at": "1,2"}, "at"),
        ("voxel", {"case": "toy-0", "at": "1,2,three"}, "at"),
        ("windows", {"window": "a"}, "window"),
        ("windows", {"window": "0,4,4"}, "window"),
        ("windows", {"window": "2,4,4", "positive": "201"}, "positive"),
        ("windows", {"window": "2,4,4", "max_overlap": "nan"}, "max_overlap"),
        ("windows", {"window": "2,4,4", "seed": "-1"}, "seed"),
    ],
)
def test_a_wrong_parameter_is_named(serve, catalog, route, facts, parameter):
    status, told = serve(catalog).ask(route, **facts)
    assert (status, told["code"], told["parameter"]) == (400, "parameter", parameter)
    assert repr(parameter) in told["error"]
    assert "expected" in told["error"]


@pytest.mark.parametrize(
    "query", ["first=1&first=2", "first", "first=%ff", "&", "&".join(f"a{k}=1" for k in range(40))]
)
def test_a_query_that_cannot_be_read_is_refused(serve, catalog, query):
    client = serve(catalog)
    assert client.get(f"/{client.server.token}/api/cases?{query}")[0].status == 400


@pytest.mark.parametrize(
    ("route", "facts", "status", "code"),
    [
        ("case", {"case": "nobody"}, 404, "unknown-name"),
        ("windows", {"case": "toy-0", "window": "2,2,4,4", "categories": "nothing"}, 404, "unknown-name"),
        ("windows", {"case": "toy-0", "window": "2,4"}, 400, "window"),
    ],
)
def test_what_does_not_exist_is_said(serve, catalog, route, facts, status, code):
    found, told = serve(catalog).ask(route, **facts)
    assert (found, told["code"]) == (status, code)


def test_no_tile_lies_outside_the_plane(serve, catalog):
    assert serve(catalog).tile("int16", **{**TILE, "tile": "0,1"}).shape == (20, 0)
