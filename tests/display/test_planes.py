"""Planes as they lie on a screen, against where their voxels lie in the patient."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from ndvol.display import direction_letters, plane_views, read_view, view_pixel, view_steps
from ndvol.geometry import Grid, Reorientation
from ndvol.volumes import ArraySource, Volume

TURNS = [
    Reorientation(order, flips) for order, flips in product(permutations(range(3)), product((False, True), repeat=3))
]
LEFT, POSTERIOR, SUPERIOR = range(3)
EXPECTED = {
    "axial": (SUPERIOR, POSTERIOR, LEFT, +1, +1, ("R", "L", "A", "P")),
    "coronal": (POSTERIOR, SUPERIOR, LEFT, -1, +1, ("R", "L", "S", "I")),
    "sagittal": (LEFT, SUPERIOR, POSTERIOR, -1, +1, ("A", "P", "S", "I")),
}
"""By view: the world axis it is across, those that run down and to the right, their signs, and the letters."""


def world_volume(grid: Grid, world_axis: int) -> Volume:
    """A volume whose values are the world coordinates of its voxels."""
    index = np.stack(np.indices([grid.shape[i] for i in grid.spatial]), -1)
    return Volume("world", grid, ArraySource(grid.world(index)[..., world_axis]))


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_however_a_volume_is_stored_its_planes_lie_the_same_on_the_screen(turn):
    grid = turn.grid(Grid.regular("zyx", (4, 5, 6), spacing=(3, 1.5, 1), origin=(-7, 2, 9)))
    views = plane_views(grid)
    assert [v.name for v in views] == list(EXPECTED)
    for view in views:
        across, down, right, down_sign, right_sign, letters = EXPECTED[view.name]
        planes = [read_view(world_volume(grid, k), view, (1, 1, 1)) for k in (across, down, right)]
        assert np.ptp(planes[0]) == 0
        assert np.allclose(np.diff(planes[1], axis=0), down_sign * view_steps(grid, view)[0])
        assert np.allclose(np.diff(planes[2], axis=1), right_sign * view_steps(grid, view)[1])
        assert view.letters == letters


@pytest.mark.parametrize("turn", TURNS[::7], ids=str)
def test_a_voxel_is_found_at_its_pixel(turn):
    grid = turn.grid(Grid.regular("zyx", (4, 5, 6), spacing=(3, 1.5, 1)))
    index = (2, 1, 3)
    array = np.zeros(grid.shape, np.uint8)
    array[index] = 9
    volume = Volume("mark", grid, ArraySource(array))
    for view in plane_views(grid):
        plane = read_view(volume, view, index)
        assert np.argwhere(plane == 9).tolist() == [list(view_pixel(grid, view, index))]


def test_time_is_chosen_and_channels_come_last():
    array = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    grid = Grid.regular("tczyx", array.shape)
    volume = Volume("toy", grid, ArraySource(array))
    for view, plane in zip(plane_views(grid), (array[1, :, 2], array[1, :, :, 3], array[1, ..., 4]), strict=True):
        assert view.letters == ("", "", "", "")
        assert np.array_equal(read_view(volume, view, (1, 0, 2, 3, 4)), np.moveaxis(plane, 0, -1))


def test_a_grid_without_two_spatial_axes_has_no_planes():
    assert plane_views(Grid("t", (4,), np.eye(1), "LOCAL", "unknown")) == ()


def test_an_oblique_direction_has_the_letters_of_the_nearest_compass_point():
    degrees = [0, 22, 23, 45, 67, 68, 90]
    turned = [direction_letters((np.cos(a), np.sin(a), 0)) for a in np.radians(degrees)]
    assert [set(t) for t in turned] == [{"L"}, {"L"}, {"L", "P"}, {"L", "P"}, {"L", "P"}, {"P"}, {"P"}]


def test_letters_of_an_oblique_grid_name_the_nearest_direction_first():
    turn = np.eye(4)
    angle = np.radians(30)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    straight = Grid.regular("zyx", (4, 5, 6), spacing=(1, 1, 1))
    axial = plane_views(Grid("zyx", straight.shape, turn @ straight.affine))[0]
    assert axial.letters == ("R", "L", "AI", "PS")
