"""The contents of a case file: a second copy of what its objects say, and all that opening it reads."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from ndvol.errors import DamageError, NdvolError, UnsafeFileError
from ndvol.geometry import Grid, Reorientation, Window
from ndvol.store import CaseWriter, forget, open_case, verify_file

SHAPE = (20, 40, 50)
GRID = Grid("zyx", SHAPE, [[0.1, 0, 0.7, -20], [0, 0.7, 0.1, 1 / 3], [2.5, 0, 0, 100], [0, 0, 0, 1]])
IMAGE = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
LABELS = (IMAGE > 900).astype(np.uint8)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "case.h5"
    with CaseWriter(path, case="Fall ä", codec="small", levels=2) as writer:
        turn = Reorientation((0, 1, 2), (True, False, False))
        writer.add_image("CT", IMAGE, GRID, reorientation=turn, attributes={"modality": "CT", "values": [0.1, "é"]})
        writer.add_label("spots", LABELS, GRID, categories={1: "spöt", 7: "other"})
    return path


def contents_of(path):
    with h5py.File(path, "r", locking=False) as file:
        return json.loads(file["contents"][...].tobytes())


def put_contents(path, data):
    """Other contents in their place, sound as far as HDF5 can tell."""
    with h5py.File(path, "r+") as file:
        del file["contents"]
        file.create_dataset("contents", data=np.frombuffer(data, np.uint8), chunks=(len(data),), fletcher32=True)


def read_all(path):
    case = open_case(path)
    return np.asarray(case.images["CT"]), np.asarray(case.labels["spots"])


def test_they_say_what_the_objects_of_the_file_say(path):
    contents = contents_of(path)
    with h5py.File(path, "r") as file:
        expected = {"case": file.attrs["case"].decode(), "images": {}, "labels": {}}
        for kind, name in (("images", "CT"), ("labels", "spots")):
            volume = file[kind][name]
            texts = {key: value.decode() for key, value in volume.attrs.items() if key != "affine"}
            plain = ("axes", "frame", "unit")
            levels = [volume[level] for level in ("0", "1")]
            expected[kind][name] = {
                **{key: text if key in plain else json.loads(text) for key, text in texts.items()},
                "affine": volume.attrs["affine"].tolist(),
                "levels": [
                    {
                        "shape": list(level.shape),
                        "type": level.dtype.str,
                        "chunk": list(level.chunks),
                        "filters": [32001, 3],
                        "fill_value": int(level.fillvalue),
                    }
                    for level in levels
                ],
            }
    assert contents == expected


def test_opening_a_case_and_reading_it_opens_three_objects_of_hdf5(path, monkeypatch):
    opened, really = [], h5py.h5o.open
    monkeypatch.setattr(h5py.h5o, "open", lambda group, name: opened.append(name) or really(group, name))
    monkeypatch.setattr(h5py.Group, "__getitem__", lambda *_: pytest.fail("an object was opened by its path"))
    image, labels = read_all(path)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(labels, LABELS)
    assert opened == [b"contents", b"manifest", b"chunks"]


def test_the_case_is_the_same_without_them(path):
    with_contents = open_case(path)
    forget(path)
    with h5py.File(path, "r+") as file:
        del file["contents"]
    without = open_case(path)
    for a, b in ((with_contents["CT"], without["CT"]), (with_contents["spots"], without["spots"])):
        assert (a.grid, a.coarser, a.attributes, a.dtype) == (b.grid, b.coarser, b.attributes, b.dtype)
    assert with_contents.name == without.name == "Fall ä"
    assert with_contents["spots"].categories == without["spots"].categories == {1: "spöt", 7: "other"}
    assert verify_file(path)[0].what.startswith("there is no 'contents' in")


def test_tables_keep_the_order_of_the_attributes(tmp_path):
    categories = {value: f"organ {value}" for value in (1, 2, 10, 11, 100)}
    with CaseWriter(tmp_path / "a.h5", case="a") as writer:
        writer.add_label("organs", LABELS, GRID, categories=categories)
    labels = open_case(tmp_path / "a.h5").labels["organs"]
    assert list(labels.categories.items()) == list(categories.items())
    assert list(labels.attributes["reorientation"]) == ["order", "flips"]


def test_a_case_belongs_to_its_caller(path):
    open_case(path).images["CT"].attributes["values"].append("changed")
    assert open_case(path).images["CT"].attributes["values"] == [0.1, "é"]


def test_every_flipped_bit_in_them_is_found_on_opening(path, tmp_path):
    with h5py.File(path, "r") as file:
        info = file["contents"].id.get_chunk_info(0)
    raw = path.read_bytes()
    for at in np.random.default_rng(0).integers(info.byte_offset, info.byte_offset + info.size, 50).tolist():
        damaged = bytearray(raw)
        damaged[at] ^= 1 << at % 8
        (tmp_path / "damaged.h5").write_bytes(damaged)
        with pytest.raises(DamageError, match=r"cannot read '/contents' in .*damaged\.h5"):
            open_case(tmp_path / "damaged.h5")
        assert verify_file(tmp_path / "damaged.h5")


def changed(contents, *path, to):
    *way, last = path
    at = contents
    for step in way:
        at = at[step]
    at[last] = to
    return json.dumps(contents).encode()


LEVEL = ("images", "CT", "levels", 0)


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: b"{",
        lambda _: b"\xff\xfe",
        lambda _: b"[" * 100_000,
        lambda _: b"[]",
        lambda _: b"{}",
        lambda c: changed(c, "images", to=[]),
        lambda c: changed(c, "images", "CT", to="x"),
        lambda c: changed(c, "images", "CT", "axes", to=5),
        lambda c: changed(c, "images", "CT", "axes", to="yx"),
        lambda c: changed(c, "images", "CT", "affine", to=[[float("nan")] * 4] * 4),
        lambda c: changed(c, "images", "CT", "frame", to=["LPS"]),
        lambda c: changed(c, "images", "CT", "attributes", to=[1]),
        lambda c: changed(c, "images", "CT", "levels", to=[]),
        lambda c: changed(c, "labels", "spots", "categories", to=["a"]),
        lambda c: changed(c, "labels", "spots", "categories", to={"one": "a"}),
        lambda c: changed(c, *LEVEL, to={}),
        lambda c: changed(c, *LEVEL, "shape", to=[20.0, 40, 50]),
        lambda c: changed(c, *LEVEL, "shape", to=[-20, 40, 50]),
        lambda c: changed(c, *LEVEL, "shape", to=[2**80, 40, 50]),
        lambda c: changed(c, *LEVEL, "shape", to="abc"),
        lambda c: changed(c, *LEVEL, "type", to="O"),
        lambda c: changed(c, *LEVEL, "type", to="<f1"),
        lambda c: changed(c, *LEVEL, "type", to=2),
        lambda c: changed(c, *LEVEL, "chunk", to=[0, 32, 32]),
        lambda c: changed(c, *LEVEL, "chunk", to=[32, 32]),
        lambda c: changed(c, *LEVEL, "filters", to=["blosc"]),
        lambda c: changed(c, *LEVEL, "fill_value", to=2**20),
        lambda c: changed(c, *LEVEL, "fill_value", to="x"),
        lambda c: changed(c, *LEVEL, "fill_value", to=[1, 2]),
    ],
)
def test_contents_that_are_none_are_refused_and_named(path, forge):
    put_contents(path, forge(contents_of(path)))
    with pytest.raises(NdvolError, match=r"case\.h5|images/CT|does not fit|axes|affine|frame"):
        open_case(path)
    assert verify_file(path)


@pytest.mark.parametrize("limits", [{"chunk": [2**20, 2**20, 1]}, {"shape": [2**40, 40, 50], "chunk": [1, 32, 32]}])
def test_declared_sizes_are_capped(path, limits):
    contents = contents_of(path)
    contents["images"]["CT"]["levels"] = [{**contents["images"]["CT"]["levels"][0], **limits}]
    put_contents(path, json.dumps(contents).encode())
    with pytest.raises(UnsafeFileError, match=r"has chunks of|declares"):
        open_case(path).images["CT"].read(Window((0, 0, 0), (1, 1, 1)))


@pytest.mark.parametrize(
    "forge",
    [
        lambda c: changed(c, "case", to="another"),
        lambda c: changed(c, "images", "CT", "affine", 0, 3, to=-20.000000000000004),
        lambda c: changed(c, "images", "CT", "attributes", "modality", to="MR"),
        lambda c: changed(c, "images", "CT", "attributes", "more", to=1),
        lambda c: changed(c, "labels", "spots", "categories", "1", to="lesion"),
        lambda c: changed(c, "labels", "ghost", to=c["labels"]["spots"]),
        lambda c: changed(c, *LEVEL, "shape", to=[20, 40, 49]),
        lambda c: changed(c, *LEVEL, "fill_value", to=1),
    ],
)
def test_verify_finds_a_copy_that_differs(path, forge):
    put_contents(path, forge(contents_of(path)))
    what = [damage.what for damage in verify_file(path)]
    assert "the contents are not those that the attributes and data sets add up to" in what


def test_verify_finds_an_attribute_that_differs_from_them(path):
    with h5py.File(path, "r+") as file:
        file["images/CT"].attrs.modify("affine", np.eye(4))
    damage = [d.what for d in verify_file(path)]
    assert "the contents are not those that the attributes and data sets add up to" in damage


@pytest.mark.parametrize(
    ("key", "value"), [("shape", [20, 40, 49]), ("type", "<u2"), ("filters", [4, 3]), ("chunk", None)]
)
def test_a_data_set_that_h5py_reads_must_be_what_they_say(path, key, value, monkeypatch):
    put_contents(path, changed(contents_of(path), *LEVEL, key, to=value))
    if key != "filters":
        monkeypatch.setenv("NDVOL_DIRECT", "0")
    with pytest.raises(NdvolError, match=r"is not stored as the file's contents say|differ in type|does not fit"):
        np.asarray(open_case(path).images["CT"])


@pytest.mark.parametrize("place", [(2**63, 10), (10, 2**64 - 5), (0, 10**9), (10**9, 0)])
def test_chunks_outside_the_file_are_refused_before_they_are_read(path, place):
    with h5py.File(path, "r+") as file:
        names = json.loads(file["manifest"].attrs["datasets"])
        row = int(np.searchsorted(file["manifest"][:, 0], names.index("images/CT/0")))
        file["chunks"][row] = place
    with pytest.raises(DamageError, match="leads out of the file"):
        open_case(path).images["CT"].read(Window((0, 0, 0), (1, 1, 1)))
    assert [d.what for d in verify_file(path)] == ["a chunk lies elsewhere than the file says"]
