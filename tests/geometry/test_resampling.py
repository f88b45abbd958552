"""Resampling reproduces what is linear in the world, agrees with brute force, and never goes beyond the source."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import SimpleITK
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ndvol.errors import GeometryError
from ndvol.geometry import Grid
from ndvol.geometry.gaps import MOST_GROWTH
from ndvol.geometry.planes import stack_planes
from ndvol.geometry.resampling import SHEAR_PIXELS, Deskew, deskewing, repeat_planes, resample_planes

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@st.composite
def places(draw: st.DrawFn) -> list[float]:
    """Ascending indices from 0 to a whole number, some of them whole."""
    last = draw(st.integers(1, 7))
    inner = draw(st.sets(st.sampled_from([k / 8 for k in range(1, 8 * last)]), max_size=8))
    return [0.0, *sorted(inner), float(last)]


def numbers(shape: tuple[int, ...], seed: int, dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 3000, shape).astype(dtype)


@given(places(), st.sampled_from(["zyx", "tzyx", "tczyx"]), st.sampled_from(["int16", "uint16", "int32", "float64"]))
def test_each_column_is_interpolated_as_numpy_does_it(at: list[float], axes: str, dtype: str) -> None:
    shape = tuple({"t": 2, "c": 3, "z": len(at), "y": 2, "x": 3}[a] for a in axes)
    volume, z = abs(numbers(shape, 1, "int64")).astype(dtype), axes.index("z")
    found = resample_planes(volume, z, at)
    assert found.dtype == {"int32": "float64", "float64": "float64"}.get(dtype, "float32")
    wanted = np.apply_along_axis(lambda column: np.interp(np.arange(at[-1] + 1), at, column), z, volume)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for k, index in enumerate(at):
        if index.is_integer():
            np.testing.assert_array_equal(found.take(int(index), z), volume.take(k, z))


@given(places())
def test_labels_take_the_nearest_plane(at: list[float]) -> None:
    labels = np.arange(1, len(at) + 1, dtype=np.uint8)[:, None] * np.ones((1, 2), np.uint8)
    found = resample_planes(labels, 0, at, nearest=True)
    assert found.dtype == np.uint8
    for k, plane in enumerate(found):
        distances = [abs(k - index) for index in at]
        assert distances[plane[0] - 1] == min(distances)


def test_padding_is_not_mixed_with_what_was_measured() -> None:
    volume = np.array([[-2000, -2000, 10, -1500], [40, -2000, 20, 40]], np.int16)
    found = resample_planes(volume, 0, [0, 2], padding=(-2000, -1500))
    np.testing.assert_array_equal(found[1], [-2000, -2000, 15, -2000])
    np.testing.assert_array_equal(found[[0, 2]], volume)
    np.testing.assert_array_equal(resample_planes(volume, 0, [0, 2])[1], [-980, -2000, 15, -730])


def test_what_is_no_number_spreads_to_no_plane_of_the_source() -> None:
    volume = np.array([[np.nan, np.inf], [1, 2], [3, -np.inf]], np.float32)
    found = resample_planes(volume, 0, [0, 1, 3])
    np.testing.assert_array_equal(found[[0, 1, 3]], volume)
    np.testing.assert_array_equal(found[2], [2, -np.inf])


@st.composite
def places_apart(draw: st.DrawFn) -> list[float]:
    """As `places`, more than 1 from each other."""
    gaps = draw(st.lists(st.sampled_from([k / 8 for k in range(9, 25)]), max_size=4))
    inner = np.cumsum(gaps).tolist()
    last = int(max([0.0, *inner])) + 2 + draw(st.integers(0, 3))
    return [0.0, *inner, float(last)]


@given(places_apart())
def test_drawn_labels_are_repeated_from_the_nearest_plane(at: list[float]) -> None:
    assert all(b - a > 1 for a, b in pairwise(at))
    assume(all(abs(index % 1 - 0.5) > 1e-9 for index in at))
    drawn = np.zeros((int(at[-1]) + 1, 2), np.uint8)
    drawn[np.rint(at).astype(int)] = np.arange(1, len(at) + 1)[:, None]
    found = repeat_planes(drawn, 0, at)
    for k, plane in enumerate(found):
        distances = [abs(k - index) for index in at]
        assert distances[plane[0] - 1] == min(distances)


# Uneven planes.


@st.composite
def uneven(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Gaps of 1 to 6 mm, and a step along the stacking direction per mm of depth."""
    gaps = draw(st.lists(st.floats(1, 6), min_size=3, max_size=12))
    tilt = draw(st.floats(-0.6, 0.6))
    return np.concatenate([[0], np.cumsum(gaps)]), np.array([0.0, tilt, 1.0])


@given(uneven(), st.randoms(use_true_random=False))
def test_uneven_planes_lie_where_their_positions_say(scan, random) -> None:
    depths, direction = scan
    shuffled = random.sample(range(len(depths)), len(depths))
    positions = np.outer(depths, direction)[shuffled] + (5, -7, 11)
    found = stack_planes(positions, AXIAL, (1, 1), on_gap="resample")
    np.testing.assert_array_equal(np.array(shuffled)[list(found.order)], range(len(depths)))
    assert found.indices[0] == 0
    assert found.indices[-1] == found.count - 1 <= MOST_GROWTH["resample"] * len(depths)
    assert all(b > a for a, b in pairwise(found.indices))
    assert found.missing == tuple(sorted(set(range(found.count)) - set(found.indices)))
    lies = found.affine @ np.array([[k, 0, 0, 1] for k in found.indices]).T
    step = np.linalg.norm(found.affine[:3, 0])
    np.testing.assert_allclose(lies[:3].T, positions[list(found.order)], atol=max(0.05, 0.02 * step))
    narrowest = np.diff(depths).min()
    if narrowest * (MOST_GROWTH["resample"] * len(depths) - 1) >= depths[-1]:
        assert found.affine[2, 0] <= 1.2 * narrowest
    if not found.resampled:
        assert found.missing == ()


def test_two_spacings_keep_the_planes_of_both() -> None:
    depths = np.concatenate([np.arange(0, 10, 2.5), np.arange(10, 46, 5.0)])
    positions = np.outer(depths, [0, 0.3, 1])
    for choice in ("refuse", "mask"):
        with pytest.raises(GeometryError, match="or have the series resampled") as caught:
            stack_planes(positions, AXIAL, (1, 1), on_gap=choice)
        assert caught.value.code == "uneven-slices"
    found = stack_planes(positions, AXIAL, (1, 1), on_gap="resample")
    np.testing.assert_array_equal(found.indices, depths / 2.5)
    np.testing.assert_allclose(found.affine[:3, 0], [0, 0.75, 2.5])
    assert found.missing == (5, 7, 9, 11, 13, 15, 17)
    assert found.resampled


def test_an_odd_gap_does_not_decide_about_the_spacing() -> None:
    gaps = [4.0] * 13 + [0.5] + [7.0] * 13
    found = stack_planes(np.outer(np.cumsum([0, *gaps]), [0, 0, 1]), AXIAL, (1, 1), on_gap="resample")
    assert 3.9 < np.linalg.norm(found.affine[:3, 0]) <= 4.0
    assert found.indices[-1] == found.count - 1


def test_jitter_is_no_uneven_spacing() -> None:
    depths = 2.5 * np.arange(20) + np.random.default_rng(0).uniform(-0.02, 0.02, 20)
    found = stack_planes(np.outer(depths, [0, 0, 1]), AXIAL, (1, 1), on_gap="resample")
    assert not found.resampled
    assert found.indices == tuple(range(20))


@pytest.mark.parametrize(
    ("z", "code"),
    [
        ([0, 1, 2, 3000, 3001, 3002], "missing-slices"),
        ([0, 1e-3, 2.5e-3, 1e6], "uneven-slices"),
        ([0, 3, 3, 6.7], "duplicate-slices"),
    ],
)
def test_a_volume_is_not_made_of_next_to_nothing(z, code) -> None:
    with pytest.raises(GeometryError) as caught:
        stack_planes([[0, 0, v] for v in z], AXIAL, (1, 1), on_gap="resample")
    assert caught.value.code == code
    assert "resampled" not in caught.value.hint
    assert "interpolated" not in caught.value.hint


def test_uneven_planes_off_a_straight_line_are_refused() -> None:
    points = np.outer([0, 2, 5, 7, 10], [0, 0, 1.0])
    points[2, 1] = 0.4
    with pytest.raises(GeometryError, match="one straight line"):
        stack_planes(points, AXIAL, (1, 1), on_gap="resample")


# Sheared stacks.


@st.composite
def sheared(draw: st.DrawFn, axes: str = "zyx") -> Grid:
    """Orthogonal in plane, oblique, with planes that move along both axes of the plane."""
    angles = [draw(st.floats(-1, 1)) for _ in range(2)]
    (ca, sa), (cb, sb) = ((np.cos(a), np.sin(a)) for a in angles)
    turn = np.array([[ca, -sa, 0], [sa, ca, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cb, -sb], [0, sb, cb]])
    steps = [draw(st.floats(0.5, 3)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = turn * steps
    drift = [draw(st.sampled_from([0.0, 1.0, -2.0, 0.4, -0.75, 1.3])) for _ in range(2)]
    affine[:3, 0] += affine[:3, 1:3] @ drift
    affine[:3, 3] = draw(st.floats(-100, 100)), 7, -3
    shape = {"t": 2, "c": 3, "z": draw(st.integers(2, 6)), "y": 5, "x": 7}
    return Grid(axes, tuple(shape[a] for a in axes), affine)


def is_orthogonal(grid: Grid) -> bool:
    return bool(np.allclose(grid.direction.T @ grid.direction, np.eye(3), atol=1e-6))


def source_indices(grid: Grid, deskew: Deskew) -> np.ndarray:
    """Where each voxel of the orthogonal grid lies in the sheared one."""
    return grid.index(deskew.grid.world(np.moveaxis(np.indices(deskew.grid.shape[-3:]), 0, -1)))


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    (i, fy), (j, fx) = ((int(np.floor(v)), v - np.floor(v)) for v in (y, x))
    value = 0.0
    for a, wy in ((i, 1 - fy), (i + 1, fy)):
        for b, wx in ((j, 1 - fx), (j + 1, fx)):
            value += plane[a, b] * wy * wx if wy * wx else 0.0
    return value


@settings(max_examples=50)
@given(sheared(), st.integers(0, 99))
def test_every_voxel_is_that_of_its_place_in_the_sheared_stack(grid: Grid, seed: int) -> None:
    deskew = deskewing(grid)
    assume(deskew is not None)
    volume = numbers(grid.shape, seed)
    found = deskew.array(volume, fill_value=-5000)
    assert is_orthogonal(deskew.grid)
    np.testing.assert_allclose(deskew.grid.affine[:3, 1:3], grid.affine[:3, 1:3])
    at = source_indices(grid, deskew)
    np.testing.assert_allclose(at[..., 0], np.indices(found.shape)[0], atol=1e-9)
    size = np.array(grid.shape[1:])
    for k, y, x in np.ndindex(found.shape):
        place = at[k, y, x, 1:].round(9)
        inside = (place >= 0).all() and (place <= size - 1).all()
        wanted = bilinear(volume[k], *place) if inside else -5000
        np.testing.assert_allclose(found[k, y, x], wanted, rtol=1e-5, atol=1e-3)


@given(sheared(), st.tuples(*[st.floats(-2, 2)] * 4))
def test_a_ramp_of_the_world_is_reproduced(grid: Grid, ramp: tuple[float, ...]) -> None:
    def ramp_of(grid: Grid) -> np.ndarray:
        return grid.world(np.moveaxis(np.indices(grid.shape), 0, -1)) @ ramp[:3] + ramp[3]

    deskew = deskewing(grid)
    assume(deskew is not None)
    found = deskew.array(ramp_of(grid), fill_value=np.nan)
    covered = np.isfinite(found)
    # All voxels but the rim of half-covered ones: at most one row and one column of each plane.
    assert covered.sum() >= grid.shape[0] * (grid.shape[1] - 1) * (grid.shape[2] - 1)
    np.testing.assert_allclose(found[covered], ramp_of(deskew.grid)[covered], atol=1e-9)


@given(sheared())
def test_the_orthogonal_grid_holds_every_voxel_and_little_more(grid: Grid) -> None:
    deskew = deskewing(grid)
    assume(deskew is not None)
    at = deskew.grid.index(grid.world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    low, high = at.min((0, 1, 2)), at.max((0, 1, 2))
    assert (low > -1e-6).all()
    assert (low < 1).all()
    last = np.array(deskew.grid.shape) - 1
    assert (high < last + 1e-6).all()
    assert (high > last - 1).all()


@given(sheared())
def test_labels_keep_their_voxels_and_move_by_half_a_pixel_at_most(grid: Grid) -> None:
    deskew = deskewing(grid)
    assume(deskew is not None)
    labels = np.arange(1, np.prod(grid.shape) + 1, dtype=np.uint16).reshape(grid.shape)
    found = deskew.array(labels, fill_value=0, nearest=True)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(np.sort(found[found > 0]), labels.ravel())
    where = np.argwhere(found > 0)
    moved = deskew.grid.world(where) - grid.world(np.argwhere(labels > 0)[found[found > 0] - 1])
    assert (np.abs(moved @ grid.direction[:, 1:3]) <= 0.5 * np.array(grid.spacing[1:]) + 1e-6).all()


@given(sheared("tczyx"))
def test_times_and_channels_are_deskewed_each(grid: Grid) -> None:
    deskew = deskewing(grid)
    assume(deskew is not None)
    volume = numbers(grid.shape, 3)
    found = deskew.array(volume, fill_value=0)
    assert found.shape == deskew.grid.shape
    alone = deskewing(Grid("zyx", grid.shape[2:], grid.affine))
    for t, c in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[t, c], alone.array(volume[t, c], fill_value=0))


def tilted(drift: tuple[float, float] = (0.6, 0.0), shape: tuple[int, ...] = (4, 6, 5)) -> Grid:
    """Rows of 0.5 mm, columns of 1 mm, planes of 2 mm that move by `drift` pixels each."""
    affine = np.array([[0, 0, 1, 10], [0, 0.5, 0, 20], [2.0, 0, 0, 30], [0, 0, 0, 1]])
    affine[:3, 0] += affine[:3, 1:3] @ drift
    return Grid("zyx", shape, affine)


def test_whole_pixels_change_no_value_and_no_type() -> None:
    deskew = deskewing(tilted((-2, 1.00001)))
    assert deskew.is_exact
    volume = numbers((4, 6, 5), 0)
    found = deskew.array(volume, fill_value=0)
    assert (found.dtype, found.shape) == ("int16", (4, 12, 8))
    for k in range(4):
        np.testing.assert_array_equal(found[k, 6 - 2 * k : 12 - 2 * k, k : k + 5], volume[k])
    assert np.count_nonzero(found) == np.count_nonzero(volume)


def test_padding_stays_padding_and_spreads() -> None:
    volume = np.full((2, 4, 1), 100, np.int16)
    volume[:, 1] = -2000
    found = deskewing(tilted((0.5, 0), (2, 4, 1))).array(volume, fill_value=-2000, padding=(-2000, -2000))
    np.testing.assert_array_equal(found[..., 0], [[100, -2000, 100, 100, -2000], [-2000, -2000, -2000, 100, -2000]])


def test_the_angle_is_that_of_the_stacking_direction() -> None:
    assert deskewing(tilted((1.0, 0))).degrees == pytest.approx(np.degrees(np.arctan(0.5 / 2)))


@pytest.mark.parametrize(
    "grid",
    [
        tilted((0, 0)),
        tilted((SHEAR_PIXELS / 3.01, 0)),
        tilted(shape=(1, 6, 5)),
        Grid.regular("yx", (3, 4)),
        Grid.regular("tzyx", (2, 3, 4, 5), spacing=(1, 1, 1)),
    ],
)
def test_orthogonal_and_flat_grids_are_left_alone(grid: Grid) -> None:
    assert deskewing(grid) is None


def test_what_shifting_planes_cannot_mend_is_refused() -> None:
    affine = tilted().affine.copy()
    affine[0, 1] = 0.01
    with pytest.raises(GeometryError, match="not at right angles") as caught:
        deskewing(Grid("zyx", (4, 6, 5), affine))
    assert caught.value.code == "in-plane-shear"
    with pytest.raises(GeometryError, match=r"got 8.5 times .* at most 8 times") as caught:
        deskewing(tilted((15, 0)))
    assert caught.value.code == "too-sheared"


def test_simpleitk_resamples_alike() -> None:
    grid, volume = tilted((0.7, -0.3), (5, 9, 8)), numbers((5, 9, 8), 5)
    deskew = deskewing(grid)
    found = deskew.array(volume, fill_value=-5000)

    def placed(image: SimpleITK.Image, grid: Grid) -> SimpleITK.Image:
        image.SetSpacing(grid.spacing[::-1])
        image.SetOrigin(grid.origin)
        image.SetDirection(grid.direction[:, ::-1].ravel().tolist())
        return image

    source = placed(SimpleITK.GetImageFromArray(volume.astype(np.float64)), grid)
    target = placed(SimpleITK.Image(*deskew.grid.shape[::-1], SimpleITK.sitkFloat64), deskew.grid)
    witness = SimpleITK.GetArrayFromImage(SimpleITK.Resample(source, target, SimpleITK.Transform(), 2, -5000.0))
    # The witness extrapolates by half a voxel at the rim, and drops a rim that rounding puts outside.
    both = (found != -5000) & (witness != -5000)
    assert both.sum() >= 5 * 8 * 7 - 16
    np.testing.assert_allclose(found[both], witness[both], atol=1e-3)
