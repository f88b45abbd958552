"""The box of a window in another grid, voxel by voxel."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndvol.geometry import Grid, Window
from ndvol.geometry.matching import EDGE_TOLERANCE, matching_box

STEPS = st.sampled_from([0.5, 0.7, 1.0, 1.25, 3.0])


@st.composite
def regular_grids(draw, n):
    spacing = [draw(STEPS) for _ in range(n)]
    origin = [draw(st.integers(-40, 40)) / 8 for _ in range(n)]
    return Grid.regular("zyx"[3 - n :], (9,) * n, spacing=spacing, origin=origin)


@given(st.data())
def test_along_the_axes_it_is_the_voxels_that_share_some_world(data):
    n = data.draw(st.integers(1, 3))
    grid, other = data.draw(regular_grids(n)), data.draw(regular_grids(n))
    window = Window(
        tuple(data.draw(st.integers(-5, 9)) for _ in range(n)), tuple(data.draw(st.integers(0, 6)) for _ in range(n))
    )
    box = matching_box(grid, window, other)
    if not window.size:
        assert not box.size
        return
    for axis in range(n):
        # Storage order runs against the order of the world's coordinates.
        a, b = grid.origin[n - 1 - axis], other.origin[n - 1 - axis]
        low, high = (a + grid.spacing[axis] * (i - 0.5) for i in (window.start[axis], window.stop[axis]))
        step = other.spacing[axis]
        shared = [
            j
            for j in range(-150, 150)
            if min(high, b + step * (j + 0.5)) - max(low, b + step * (j - 0.5)) > step * EDGE_TOLERANCE * (1 + 1e-6)
        ]
        assert (box.start[axis], box.stop[axis]) == (shared[0], shared[-1] + 1)


@given(st.data())
def test_turned_grids_give_the_box_around_the_corners(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.5, 3, 3)
    affine[:3, 3] = rng.uniform(-20, 20, 3)
    grid, other = Grid("zyx", (9, 9, 9), affine), data.draw(regular_grids(3))
    window = Window(tuple(rng.integers(-5, 9, 3).tolist()), tuple(rng.integers(1, 6, 3).tolist()))
    box = matching_box(grid, window, other)
    edges = [(a - 0.5, b - 0.5) for a, b in zip(window.start, window.stop, strict=True)]
    corners = other.index(grid.world([*product(*edges)])) + 0.5
    slack = EDGE_TOLERANCE + 1e-9
    assert (corners >= np.array(box.start) - slack).all()
    assert (corners <= np.array(box.stop) + slack).all()
    # No face can move in by a voxel.
    assert (corners.min(0) < np.array(box.start) + 1).all()
    assert (corners.max(0) > np.array(box.stop) - 1).all()


@pytest.mark.parametrize("shift", [0.0, 1e-5, -1e-5])
def test_edges_that_meet_do_not_share_a_voxel(shift):
    fine = Grid.regular("zyx", (8, 8, 8), spacing=(1, 1, 1), origin=(shift, shift, shift))
    coarse = Grid.regular("zyx", (4, 4, 4), spacing=(2, 2, 2), origin=(0.5, 0.5, 0.5))
    assert matching_box(fine, Window((2, 4, 0), (2, 4, 8)), coarse) == Window((1, 2, 0), (1, 2, 4))
    assert matching_box(coarse, Window((1, 2, 0), (1, 2, 4)), fine) == Window((2, 4, 0), (2, 4, 8))
