"""Volumes written box by box: the same as written at once, complete, and each chunk once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndvol.errors import OptionError, StoreError, WindowError
from ndvol.geometry import Grid, chunk_shape
from ndvol.store import CaseWriter, open_case, read_identity, read_objects, verify_file

GRID = Grid.regular("zyx", (70, 40, 33), spacing=(2, 1, 1))


def arrays():
    rng = np.random.default_rng(0)
    image = rng.normal(size=GRID.shape).astype(np.float32)
    image[:40] = 0
    labels = (rng.random(GRID.shape) < 0.001) * rng.integers(1, 4, GRID.shape)
    labels[:40, :35] = 0
    return image, labels.astype(np.uint8)


def rows(stream, array, order=1):
    """The array in slabs of whole chunks."""
    depth = stream.chunk[0]
    for first in list(range(0, len(array), depth))[::order]:
        yield (first, 0, 0), array[first : first + depth]


@pytest.mark.parametrize("order", [1, -1])
def test_a_streamed_volume_is_that_written_at_once(tmp_path, order):
    image, labels = arrays()
    names = {1: "a", 2: "b", 3: "c", 4: "never"}
    with CaseWriter(tmp_path / "whole.h5", case="x") as writer:
        writer.add_image("CT", image, GRID)
        writer.add_label("organs", labels, GRID, categories=names, objects="category")
    with CaseWriter(tmp_path / "streamed.h5", case="x") as writer:
        volumes = [(writer.stream("CT", np.float32, GRID), image)]
        volumes.append((writer.stream("organs", np.uint8, GRID, categories=names), labels))
        for stream, array in volumes:
            for start, block in rows(stream, array, order):
                stream.put(start, block)
    assert verify_file(tmp_path / "streamed.h5") == []
    whole, streamed = (open_case(tmp_path / f"{name}.h5") for name in ("whole", "streamed"))
    assert np.array_equal(np.asarray(streamed.images["CT"]), image)
    assert np.array_equal(np.asarray(streamed.labels["organs"]), labels)
    for volume in ("CT", "organs"):
        assert (streamed[volume].grid, streamed[volume].attributes) == (whole[volume].grid, whole[volume].attributes)
    assert streamed.labels["organs"].categories == names
    objects = [read_objects(tmp_path / f"{name}.h5", "organs") for name in ("whole", "streamed")]
    assert np.array_equal(*objects)
    index = streamed.labels["organs"].index
    assert [index.count(v) for v in range(5)] == [0, *((labels == v).sum() for v in range(1, 5))]
    assert {index.voxel(2, r) for r in range(index.count(2))} == {
        tuple(map(int, at)) for at in np.argwhere(labels == 2)
    }
    # All that is written decides the uuid, and here both wrote the same.
    assert read_identity(tmp_path / "whole.h5")["uuid"] == read_identity(tmp_path / "streamed.h5")["uuid"]


def test_the_order_of_the_boxes_does_not_change_a_byte_of_the_manifest(tmp_path):
    image, _ = arrays()
    uuids = set()
    for order in (1, -1):
        with CaseWriter(tmp_path / "a.h5", case="x") as writer:
            stream = writer.stream("CT", np.float32, GRID)
            for start, block in rows(stream, image, order):
                stream.put(start, block)
        uuids.add(read_identity(tmp_path / "a.h5")["uuid"])
    assert len(uuids) == 1


@settings(max_examples=30)
@given(data=st.data())
def test_any_tiling_by_whole_chunks(tmp_path_factory, data):
    axes = data.draw(st.sampled_from(["x", "yx", "tyx", "tczyx"]))
    shape = data.draw(st.tuples(*[st.integers(1, 40 if a in "zyx" else 3) for a in axes]))
    grid = Grid.regular(axes, shape)
    array = np.random.default_rng(0).integers(-3, 3, shape).astype(np.int16)
    chunk = chunk_shape(axes, shape)
    starts = [()]
    for n, c in zip(shape, chunk, strict=True):
        starts = [(*s, k) for s in starts for k in range(0, n, c)]
    path = tmp_path_factory.mktemp("tiling") / "a.h5"
    with CaseWriter(path, case="x") as writer:
        stream = writer.stream("CT", np.int16, grid)
        assert stream.chunk == chunk
        for start in data.draw(st.permutations(starts)):
            stream.put(start, array[tuple(slice(a, a + c) for a, c in zip(start, chunk, strict=True))])
    assert np.array_equal(np.asarray(open_case(path).images["CT"]), array)


def write(path, put):
    with CaseWriter(path, case="x") as writer:
        put(writer.stream("CT", np.float32, GRID))


def test_an_incomplete_volume_is_not_published(tmp_path):
    image, _ = arrays()
    with pytest.raises(StoreError, match=r"'images/CT/0' is not complete; got \d+ chunks were never written"):
        write(tmp_path / "a.h5", lambda stream: stream.put((0, 0, 0), image[: stream.chunk[0]]))
    assert list(tmp_path.iterdir()) == []


def test_a_chunk_is_written_once(tmp_path):
    def twice(stream):
        for _ in range(2):
            stream.put((0, 0, 0), np.ones(stream.chunk))

    with pytest.raises(StoreError, match="chunk 0 of 'images/CT/0' is written already"):
        write(tmp_path / "a.h5", twice)


@pytest.mark.parametrize(
    ("start", "shape"), [((1, 0, 0), (31, 33, 33)), ((0, 0, 0), (5, 40, 33)), ((64, 0, 0), (9, 40, 33))]
)
def test_boxes_that_are_no_whole_chunks(tmp_path, start, shape):
    with pytest.raises(WindowError, match="must consist of whole chunks"):
        write(tmp_path / "a.h5", lambda stream: stream.put(start, np.zeros(shape)))


def test_values_without_a_category_and_types_that_cannot_be(tmp_path):
    with CaseWriter(tmp_path / "a.h5", case="x") as writer:
        with pytest.raises(OptionError, match="cannot be streamed in this type; got float32"):
            writer.stream("organs", np.float32, GRID, categories={1: "a"})
        with pytest.raises(OptionError, match="cannot be streamed in this type; got bool"):
            writer.stream("CT", bool, GRID)
        labels = writer.stream("organs", np.uint8, GRID, categories={1: "a"})
        with pytest.raises(OptionError, match="'labels/organs/0' holds a value without a category; got 2"):
            labels.put((0, 0, 0), np.full(labels.chunk, 2))
        for start, block in rows(labels, np.zeros(GRID.shape, np.uint8)):
            labels.put(start, np.ascontiguousarray(block))
    assert np.asarray(open_case(tmp_path / "a.h5").labels["organs"]).max() == 0
    assert len(read_objects(tmp_path / "a.h5", "organs")) == 0
