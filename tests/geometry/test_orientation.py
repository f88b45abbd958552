"""Reorientation loses nothing and moves nothing; the closest one is found by trying them all, and by nibabel."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nibabel import orientations

from ndvol.errors import GridError
from ndvol.geometry import Grid, Reorientation, closest_canonical

AXES = st.sampled_from(["x", "yx", "zyx", "tyx", "tzyx", "czyx"])


def count_spatial(axes: str) -> int:
    return sum(a in "zyx" for a in axes)


def reorientations(n: int) -> list[Reorientation]:
    """All of them: n! * 2**n."""
    return [Reorientation(o, f) for o in permutations(range(n)) for f in product((False, True), repeat=n)]


@st.composite
def matrices(draw: st.DrawFn, n: int) -> np.ndarray:
    """Unit columns, oblique and sheared."""
    cosines = st.floats(-1, 1).map(lambda v: round(v, 6))
    matrix = np.array(draw(st.lists(cosines, min_size=n * n, max_size=n * n))).reshape(n, n)
    lengths = np.linalg.norm(matrix, axis=0)
    assume(n == 0 or lengths.min() > 0.1)
    assume(n == 0 or abs(np.linalg.det(matrix / lengths)) > 0.05)
    return matrix / lengths


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    axes = draw(AXES)
    n = count_spatial(axes)
    affine = np.eye(n + 1)
    affine[:n, :n] = draw(matrices(n)) * [draw(st.floats(0.5, 5)) for _ in range(n)]
    affine[:n, n] = [draw(st.integers(-99, 99)) for _ in range(n)]
    return Grid(axes, tuple(draw(st.integers(1, 4)) for _ in axes), affine, "LPS" if n == 3 else "LOCAL")


@st.composite
def near_canonical(draw: st.DrawFn) -> np.ndarray:
    """A RAS affine whose axes lie within 30 degrees of the world's, in any order and direction."""
    angles = np.radians([draw(st.floats(-17, 17)) for _ in range(3)])
    rotation = np.eye(3)
    for (i, j), a in zip(((0, 1), (1, 2), (0, 2)), angles, strict=True):
        turn = np.eye(3)
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(a), -np.sin(a), np.sin(a), np.cos(a)
        rotation = rotation @ turn
    columns = draw(st.permutations(range(3)))
    signs = [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = rotation[:, columns] * signs * [draw(st.floats(0.5, 5)) for _ in range(3)]
    affine[:3, 3] = [draw(st.integers(-99, 99)) for _ in range(3)]
    return affine


@given(grids(), st.data())
def test_every_voxel_keeps_its_place_and_value(grid: Grid, data: st.DataObject) -> None:
    turn = data.draw(st.sampled_from(reorientations(len(grid.spatial))))
    volume = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    turned, new = turn.array(volume, axes=grid.axes), turn.grid(grid)
    assert turned.shape == new.shape
    assert np.shares_memory(turned, volume)
    old_index = np.stack(np.unravel_index(turned, grid.shape), -1)
    new_index = np.moveaxis(np.indices(new.shape), 0, -1)
    np.testing.assert_allclose(
        new.world(new_index[..., list(new.spatial)]), grid.world(old_index[..., list(grid.spatial)]), atol=1e-9
    )
    others = [i for i in range(grid.ndim) if i not in grid.spatial]
    np.testing.assert_array_equal(new_index[..., others], old_index[..., others])


@pytest.mark.parametrize("axes", ["x", "yx", "zyx", "tzyx", "tyx"])
def test_the_inverse_undoes_each(axes: str) -> None:
    n = count_spatial(axes)
    shape = (2, 3, 4, 5)[: len(axes)]
    grid = Grid.regular(axes, shape, spacing=(1, 2, 4)[:n], origin=(8, 16, 32)[:n])
    volume = np.arange(np.prod(shape)).reshape(shape)
    for turn in reorientations(n):
        back = turn.inverse()
        np.testing.assert_array_equal(back.array(turn.array(volume, axes=axes), axes=axes), volume)
        assert back.grid(turn.grid(grid)) == grid
        assert back.inverse() == turn
        assert turn.is_identity == (turn == Reorientation(tuple(range(n)), (False,) * n))
        assert turn.is_identity == (turn.grid(grid) == grid)


@given(grids())
def test_the_closest_is_the_best_of_all(grid: Grid) -> None:
    """After it the diagonal of cosines, storage axis k against world axis n-1-k, has the largest sum of all."""
    n = len(grid.spatial)

    def score(turn: Reorientation) -> float:
        return float(np.trace(turn.grid(grid).direction[::-1]))

    turn = closest_canonical(grid)
    assert score(turn) >= max(score(t) for t in reorientations(n)) - 1e-5
    assert (np.diag(turn.grid(grid).direction[::-1]) >= -1e-12).all()


@given(grids())
def test_what_is_canonical_stays(grid: Grid) -> None:
    assert closest_canonical(closest_canonical(grid).grid(grid)).is_identity


@given(near_canonical(), st.tuples(*[st.integers(1, 4)] * 3))
def test_nibabel_finds_the_same(ras: np.ndarray, shape: tuple[int, ...]) -> None:
    """nibabel's canonical is RAS and ours is LPS: the same axes, with x and y the other way round."""
    volume = np.arange(np.prod(shape)).reshape(shape)
    image = nibabel.Nifti1Image(volume.transpose().astype(np.int32), ras)
    to_lps = orientations.ornt_transform(orientations.io_orientation(ras), orientations.axcodes2ornt(("L", "P", "S")))
    expected = image.as_reoriented(to_lps)

    grid = Grid.from_nifti("zyx", shape, ras)
    turn = closest_canonical(grid)
    np.testing.assert_array_equal(turn.array(volume, axes="zyx"), np.asarray(expected.dataobj).transpose())
    np.testing.assert_allclose(turn.grid(grid).nifti_affine, expected.affine, atol=1e-9)
    ras_again = nibabel.as_closest_canonical(expected)
    np.testing.assert_array_equal(
        turn.array(volume, axes="zyx")[:, ::-1, ::-1], np.asarray(ras_again.dataobj).transpose()
    )


def test_a_tie_takes_the_first_order() -> None:
    """At 45 degrees both orders are equally close, whatever the last digit of the cosines."""
    half = np.sqrt(0.5)
    for tilt in (-1e-12, 0.0, 1e-12):
        affine = np.array([[half + tilt, half - tilt, 0], [half - tilt, -half - tilt, 0], [0, 0, 1.0]])
        assert closest_canonical(Grid("yx", (2, 2), affine, "LOCAL")).order == (0, 1)


def test_without_spatial_axes_there_is_nothing_to_turn() -> None:
    assert closest_canonical(Grid("tc", (2, 3), np.eye(1), "LOCAL", "unknown")) == Reorientation((), ())


@pytest.mark.parametrize(
    ("order", "flips", "message"),
    [
        ((0, 0), (False, False), r"^not a reorientation; got order \(0, 0\), flips \(False, False\)$"),
        ((1, 2), (False, False), r"^not a reorientation; got order \(1, 2\)"),
        ((0, 1), (False,), r"^not a reorientation; got order \(0, 1\), flips \(False,\)$"),
    ],
)
def test_what_is_no_reorientation_is_refused(order, flips, message: str) -> None:
    with pytest.raises(GridError, match=message):
        Reorientation(order, flips)


def test_a_reorientation_of_other_axes_is_refused() -> None:
    with pytest.raises(
        GridError, match=r"^not a permutation of the spatial axes; got \(1, 0\); expected of \[0, 1, 2\]$"
    ):
        Reorientation((1, 0), (False, False)).grid(Grid.regular("zyx", (1, 2, 3)))
