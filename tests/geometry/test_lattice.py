"""Grids on one lattice: the turn and the offset are found again, and nothing else is taken for one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndvol.geometry import Grid, Reorientation, Window
from ndvol.geometry.lattice import place_on


def oblique(seed, shape):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag(rng.uniform(0.3, 5, 3))
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    return Grid("zyx", shape, affine)


turns = st.tuples(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3)).map(
    lambda t: Reorientation(tuple(t[0]), t[1])
)


@given(
    st.integers(0, 10**6),
    st.tuples(*[st.integers(-4, 9)] * 3),
    st.tuples(*[st.integers(1, 6)] * 3),
    turns,
    st.floats(-0.008, 0.008),
)
def test_a_turned_window_is_found_again(seed, start, shape, turn, off):
    image = oblique(seed, (9, 8, 7))
    part = image.crop(Window(start, shape))
    affine = part.affine.copy()
    affine[:3, 3] += off * affine[:3, 1]
    found = place_on(turn.grid(Grid("zyx", shape, affine)), image, tolerance=0.01)
    assert found == (turn.inverse(), start)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.__setitem__((slice(0, 3), 3), a[:3, 3] + 0.5 * a[:3, 0]),
        lambda a: a.__setitem__((slice(0, 3), 3), a[:3, 3] + 0.02 * a[:3, 2]),
        lambda a: a.__setitem__((slice(0, 3), 0), 2 * a[:3, 0]),
        lambda a: a.__setitem__((slice(0, 3), 1), 0.5 * a[:3, 1]),
        lambda a: a.__setitem__((slice(0, 3), 2), 1.005 * a[:3, 2]),
        lambda a: a.__setitem__((slice(0, 3), 2), a[:3, 2] + 0.01 * a[:3, 1]),
    ],
    ids=["half a voxel", "2 %", "every second", "twice as fine", "spacing", "shear"],
)
def test_voxels_that_miss_the_lattice(change):
    image = oblique(3, (9, 8, 7))
    affine = image.affine.copy()
    change(affine)
    assert place_on(image, image, tolerance=0.01) == (Reorientation((0, 1, 2), (False,) * 3), (0, 0, 0))
    assert place_on(Grid("zyx", (4, 5, 6), affine), image, tolerance=0.01) is None


def test_frame_unit_and_axes_must_agree():
    image = Grid.regular("zyx", (3, 4, 5), spacing=(1, 1, 1))
    others = [
        Grid.regular("zyx", (3, 4, 5), spacing=(1, 1, 1), frame="LOCAL"),
        Grid.regular("zyx", (3, 4, 5)),
        Grid.regular("yx", (4, 5), spacing=(1, 1)),
    ]
    assert [place_on(other, image, tolerance=0.01) for other in others] == [None] * 3
    movie = Grid.regular("tcyx", (2, 3, 4, 5), spacing=(1, 1), origin=(2, 1))
    still = Grid.regular("yx", (9, 9), spacing=(1, 1))
    assert place_on(movie, still, tolerance=0.01) == (Reorientation((0, 1), (False, False)), (1, 2))
