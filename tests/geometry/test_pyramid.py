"""Pyramid levels against a brute-force oracle: block by block, in rational numbers."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import product
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndvol.errors import GridError, OptionError
from ndvol.geometry import Grid, Window, pyramid
from ndvol.geometry.pyramid import grids_of_shapes, level_factor, level_grids, level_majorities, level_means

AXES = {1: "x", 2: "yx", 3: "zyx", 4: "tzyx"}
INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


def blocks(array, factor):
    """Index of each coarse voxel, and the voxels that it stands for."""
    for at in product(*(range(ceil(n / f)) for n, f in zip(array.shape, factor, strict=True))):
        yield at, array[tuple(slice(i * f, (i + 1) * f) for i, f in zip(at, factor, strict=True))].ravel().tolist()


def totals(factors):
    return [tuple(int(n) for n in np.prod(factors[: k + 1], axis=0)) for k in range(len(factors))]


@st.composite
def shapes_and_factors(draw):
    ndim = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, {1: 33, 2: 12, 3: 7, 4: 5}[ndim])) for _ in range(ndim))
    factors = draw(st.lists(st.tuples(*[st.integers(1, 2)] * ndim), min_size=1, max_size=4))
    return shape, factors


@given(shapes_and_factors(), st.sampled_from(INTEGERS), st.sampled_from("<>"), st.integers(0, 999), st.integers(1, 40))
@settings(deadline=None)
def test_means_of_integers_are_exact(where, dtype, order, seed, slab):
    shape, factors = where
    kind = np.dtype(dtype).newbyteorder(order)
    bits = np.random.default_rng(seed).integers(0, 256, (*shape, kind.itemsize), np.uint8)
    array = bits.view(kind)[..., 0]
    # The extremes of the type, where sums would overflow.
    array[np.random.default_rng(seed).random(shape) < 0.3] = np.iinfo(kind).max
    array[np.random.default_rng(seed + 1).random(shape) < 0.3] = np.iinfo(kind).min
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "SLAB_VOXELS", slab)
        levels = list(level_means(array, factors))
    assert len(levels) == len(factors)
    for level, total in zip(levels, totals(factors), strict=True):
        expected = np.zeros(level.shape, kind)
        for at, voxels in blocks(array, total):
            expected[at] = round(Fraction(sum(voxels), len(voxels)))
        np.testing.assert_array_equal(level, expected)
        assert level.dtype == kind


@given(shapes_and_factors(), st.sampled_from(["f4", "f8"]), st.integers(0, 2**16))
@settings(deadline=None)
def test_means_of_floats_are_those_of_rational_numbers(where, dtype, seed):
    shape, factors = where
    array = np.random.default_rng(seed).uniform(1, 1000, shape).astype(dtype)
    for level, total in zip(level_means(array, factors), totals(factors), strict=True):
        expected = np.zeros(level.shape)
        for at, voxels in blocks(array, total):
            expected[at] = float(sum(map(Fraction, voxels)) / len(voxels))
        assert level.dtype == np.dtype(dtype)
        np.testing.assert_allclose(level, expected, rtol=4 * np.finfo(dtype).eps)


def test_what_is_no_number_stays_none():
    array = np.array([np.nan, 1, np.inf, 1, np.inf, -np.inf, 3, 5], np.float32)
    np.testing.assert_array_equal(next(level_means(array, [(2,)])), [np.nan, np.inf, np.nan, 4])


def test_a_sum_beyond_float64_is_refused():
    with pytest.raises(OptionError, match="beyond float64"):
        list(level_means(np.full(4, 1.7e308), [(2,)]))
    assert next(level_means(np.full(4, 3.4e38, np.float32), [(2,)])).tolist() == [np.float32(3.4e38)] * 2


@given(shapes_and_factors(), st.sampled_from(["i1", "u1", "<i2", ">u2", "u8"]), st.integers(0, 2**16), st.floats(0, 1))
@settings(deadline=None)
def test_majorities_count_the_voxels_of_level_0(where, dtype, seed, background):
    shape, factors = where
    rng = np.random.default_rng(seed)
    array = rng.integers(1, 5, shape).astype(dtype)
    if array.dtype.kind == "i":
        array[array == 4] = -3
    array[rng.random(shape) < background] = 0
    boxes = {}
    for value in {int(v) for v in np.unique(array)} - {0}:
        at = np.argwhere(array == value)
        boxes[value] = Window.between(at.min(0), at.max(0) + 1)
    levels = level_majorities(array, factors, boxes)
    assert len(levels) == len(factors)
    for level, total in zip(levels, totals(factors), strict=True):
        expected = np.zeros(level.shape, array.dtype)
        for at, voxels in blocks(array, total):
            counts = Counter(voxels)
            expected[at] = min(counts, key=lambda v: (-counts[v], v == 0, v))
        np.testing.assert_array_equal(level, expected)
        assert level.dtype == array.dtype


SHEARED = [[0.1, 0.05, 0.7, -20], [0, 0.7, 0.1, 5.5], [2.5, 0, 0.2, 100], [0, 0, 0, 1]]


@pytest.mark.parametrize("levels", [1, 2, 3, 5])
@pytest.mark.parametrize(("axes", "shape"), [("zyx", (9, 17, 30)), ("tzyx", (6, 5, 16, 13)), ("zyx", (1, 8, 8))])
def test_a_voxel_lies_in_the_middle_of_its_block(axes, shape, levels):
    grid = Grid(axes, shape, SHEARED)
    for level in level_grids(grid, levels):
        factor = np.array(level_factor(grid, level))
        assert level.shape == tuple(ceil(n / f) for n, f in zip(shape, factor, strict=True))
        assert (level.axes, level.frame, level.unit) == (grid.axes, grid.frame, grid.unit)
        steps = factor[list(grid.spatial)]
        for at in [(0, 0, 0), (1, 2, 3)]:
            block = np.array(list(product(*(range(i * f, (i + 1) * f) for i, f in zip(at, steps, strict=True)))))
            np.testing.assert_allclose(level.world(at), grid.world(block).mean(0), atol=1e-9)


def test_levels_head_for_cubes_and_end_where_nothing_is_left():
    thick = Grid.regular("zyx", (20, 64, 64), spacing=(5, 1, 1))
    spacings = [level.spacing for level in level_grids(thick, 4)]
    assert spacings == [(5, 2, 2), (5, 4, 4), (10, 8, 8)]
    assert [g.shape for g in level_grids(Grid.regular("tyx", (7, 3, 1)), 9)] == [(7, 2, 1), (7, 1, 1)]
    # A single plane says nothing of how thick others would be.
    assert level_grids(Grid.regular("zyx", (1, 4, 4), spacing=(0.1, 1, 1)), 2)[0].shape == (1, 2, 2)
    assert level_grids(Grid.regular("t", (7,)), 3) == ()
    assert level_grids(thick, 1) == ()


@pytest.mark.parametrize("levels", [0, 11])
def test_other_numbers_of_levels_are_refused(levels):
    with pytest.raises(OptionError, match=f"that many levels; got {levels}"):
        level_grids(Grid.regular("yx", (4, 4)), levels)


@given(st.tuples(*[st.integers(1, 40)] * 3), st.tuples(*[st.floats(0.1, 9)] * 3), st.integers(1, 10))
def test_shapes_tell_the_grids(shape, spacing, levels):
    grid = Grid.regular("zyx", shape, spacing=spacing)
    grids = level_grids(grid, levels)
    assert grids_of_shapes(grid, [g.shape for g in grids]) == grids


@pytest.mark.parametrize("shape", [(4, 3, 7), (4, 2, 4), (2, 4, 4)])
def test_shapes_of_no_level_are_refused(shape):
    with pytest.raises(GridError, match="level 1 does not fit the level before"):
        grids_of_shapes(Grid.regular("tyx", (4, 7, 7)), [shape])
