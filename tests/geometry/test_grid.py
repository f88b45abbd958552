"""Grid: index and world stay together under every change, with nibabel and SimpleITK as independent oracles."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import assume, given
from hypothesis import strategies as st

from ndvol.errors import GridError
from ndvol.geometry import Grid, Window

AXES = st.sampled_from(["x", "yx", "zx", "zyx", "tyx", "czyx", "tzyx", "tczyx", "tc"])
COSINES = st.floats(-1, 1).map(lambda v: round(v, 6))
COORDINATES = st.floats(-500, 500).map(lambda v: round(v, 3))


@st.composite
def affines(draw: st.DrawFn, n: int) -> np.ndarray:
    """Oblique, sheared, left- and right-handed; voxels of 0.1 to 10 with axes well apart."""
    matrix = np.array(draw(st.lists(COSINES, min_size=n * n, max_size=n * n))).reshape(n, n)
    lengths = np.linalg.norm(matrix, axis=0)
    assume(n == 0 or lengths.min() > 0.1)
    matrix /= lengths
    assume(n == 0 or abs(np.linalg.det(matrix)) > 0.05)
    affine = np.eye(n + 1)
    affine[:n, :n] = matrix * [draw(st.floats(0.1, 10)) for _ in range(n)]
    affine[:n, n] = [draw(COORDINATES) for _ in range(n)]
    return affine


@st.composite
def grids(draw: st.DrawFn, axes: st.SearchStrategy[str] = AXES) -> Grid:
    names = draw(axes)
    n = sum(a in "zyx" for a in names)
    frame = "LPS" if n == 3 and draw(st.booleans()) else "LOCAL"
    shape = tuple(draw(st.integers(1, 5)) for _ in names)
    return Grid(names, shape, draw(affines(n)), frame, "mm")


def sources(shape: tuple[int, ...]) -> np.ndarray:
    """A volume whose voxels hold their own index: shape (*shape, ndim)."""
    return np.moveaxis(np.indices(shape), 0, -1)


def same_places(new: Grid, old: Grid, indices: np.ndarray) -> None:
    """Assert that every voxel of the new volume, which holds its index in the old one, kept its world point."""
    assert indices.shape[:-1] == new.shape
    here = sources(new.shape)[..., list(new.spatial)]
    there = indices[..., list(old.spatial)]
    np.testing.assert_allclose(new.world(here), old.world(there), rtol=0, atol=1e-9)
    assert (new.axes, new.frame, new.unit) == (old.axes, old.frame, old.unit)


@given(grids())
def test_world_is_the_affine_and_index_its_inverse(grid: Grid) -> None:
    index = sources(grid.shape)[..., list(grid.spatial)].reshape(np.prod(grid.shape), len(grid.spatial))
    homogeneous = np.column_stack([index, np.ones(len(index))])
    world = grid.world(index)
    np.testing.assert_allclose(world, (homogeneous @ grid.affine.T)[:, :-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(grid.index(world), index, rtol=0, atol=1e-6)
    assert grid.origin == tuple(grid.world(np.zeros(len(grid.spatial))))


@given(grids())
def test_spacing_and_direction_make_up_the_affine(grid: Grid) -> None:
    np.testing.assert_allclose(grid.direction * np.array(grid.spacing), grid.affine[:-1, :-1], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(grid.direction, axis=0), 1, atol=1e-12)
    steps = np.eye(len(grid.spatial))
    moved = np.linalg.norm(grid.world(steps) - grid.world(0 * steps), axis=-1)
    np.testing.assert_allclose(moved, grid.spacing, atol=1e-9)


@given(grids(), st.data())
def test_crop_keeps_every_voxel_in_its_place(grid: Grid, data: st.DataObject) -> None:
    start = tuple(data.draw(st.integers(-3, n + 2)) for n in grid.shape)
    window = Window(start, tuple(data.draw(st.integers(0, 4)) for _ in start))
    same_places(grid.crop(window), grid, sources(window.shape) + np.array(start))


@given(grids(), st.data())
def test_flip_keeps_every_voxel_in_its_place(grid: Grid, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-grid.ndim, grid.ndim - 1))
    flipped = grid.flip(axis)
    same_places(flipped, grid, np.flip(sources(grid.shape), axis % grid.ndim))
    assert flipped.flip(axis).matches(grid, tolerance=1e-9)


@given(grids(), st.data())
def test_permute_keeps_every_voxel_in_its_place(grid: Grid, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(grid.spatial))))
    axes = list(range(grid.ndim))
    for position, source in zip(grid.spatial, order, strict=True):
        axes[position] = grid.spatial[source]
    same_places(grid.permute(order), grid, sources(grid.shape).transpose([*axes, grid.ndim]))
    assert grid.permute(order).permute(np.argsort(order)) == grid


@given(affines(3), st.tuples(*[st.integers(1, 5)] * 3))
def test_nifti_affine_is_nibabels(ras: np.ndarray, shape: tuple[int, ...]) -> None:
    """The grid made of an image's affine gives every voxel the place that nibabel gives it, LPS against RAS."""
    image = nibabel.Nifti1Image(np.zeros(shape[::-1], np.uint8), ras)
    grid = Grid.from_nifti("zyx", shape, image.affine)
    assert (grid.frame, grid.unit, grid.shape) == ("LPS", "mm", shape)
    zyx = sources(shape).reshape(-1, 3)
    expected_ras = nibabel.affines.apply_affine(image.affine, zyx[:, ::-1])
    np.testing.assert_allclose(grid.world(zyx) * [-1, -1, 1], expected_ras, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(grid.nifti_affine, image.affine)
    np.testing.assert_allclose(nibabel.affines.apply_affine(grid.ras_affine, zyx), expected_ras, rtol=0, atol=1e-9)
    np.testing.assert_allclose(grid.spacing[::-1], nibabel.affines.voxel_sizes(image.affine), rtol=1e-12)


def test_a_nifti_grid_may_hold_time() -> None:
    grid = Grid.from_nifti("tzyx", (9, 2, 3, 4), np.diag([2.0, 3.0, 4.0, 1.0]))
    assert (grid.spacing, grid.shape) == ((4.0, 3.0, 2.0), (9, 2, 3, 4))
    np.testing.assert_array_equal(grid.nifti_affine, np.diag([2.0, 3.0, 4.0, 1.0]))


@given(st.data())
def test_world_is_simpleitks(data: st.DataObject) -> None:
    """ITK's own world is LPS, so that an image with the grid's geometry answers the same points."""
    quaternion = np.array([data.draw(COSINES) for _ in range(4)])
    assume(np.linalg.norm(quaternion) > 0.1)
    direction = _rotation(quaternion) * [1, 1, data.draw(st.sampled_from([1, -1]))]
    spacing = [data.draw(st.floats(0.1, 10)) for _ in range(3)]
    origin = [data.draw(COORDINATES) for _ in range(3)]
    shape = tuple(data.draw(st.integers(1, 5)) for _ in range(3))

    image = SimpleITK.Image(shape[::-1], SimpleITK.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel())
    affine = np.eye(4)
    affine[:3, :3] = (direction * spacing)[:, ::-1]
    affine[:3, 3] = origin
    grid = Grid("zyx", shape, affine)

    assert grid.origin == image.GetOrigin()
    np.testing.assert_allclose(grid.spacing[::-1], image.GetSpacing(), rtol=1e-12)
    for zyx in sources(shape).reshape(-1, 3)[:: max(1, np.prod(shape) // 8)]:
        point = image.TransformIndexToPhysicalPoint([int(i) for i in zyx[::-1]])
        np.testing.assert_allclose(grid.world(zyx), point, rtol=0, atol=1e-9)
        np.testing.assert_allclose(
            grid.index(point)[::-1], image.TransformPhysicalPointToContinuousIndex(point), atol=1e-6
        )


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@pytest.mark.parametrize("axes", ["x", "yx", "zyx", "tczyx"])
def test_a_regular_grid_steps_along_the_world_axes(axes: str) -> None:
    names = [a for a in axes if a in "zyx"]
    spacing = [{"z": 3.0, "y": 2.0, "x": 0.5}[a] for a in names]
    origin = [10.0, 20.0, 30.0][: len(names)]
    grid = Grid.regular(axes, (4,) * len(axes), spacing=spacing, origin=origin)
    assert grid.spacing == tuple(spacing)
    assert grid.origin == tuple(origin)
    for k, name in enumerate(names):
        step = grid.world(np.eye(len(names))[k]) - grid.world(np.zeros(len(names)))
        assert step["xyz".index(name)] == spacing[k]
        assert np.count_nonzero(step) == 1


@pytest.mark.parametrize(
    ("axes", "options", "expected"),
    [
        ("zyx", {"spacing": (1, 1, 1)}, ("LPS", "mm")),
        ("zyx", {}, ("LOCAL", "unknown")),
        ("zyx", {"spacing": (1, 1, 1), "unit": "um"}, ("LOCAL", "um")),
        ("zyx", {"spacing": (1, 1, 1), "frame": "LOCAL"}, ("LOCAL", "mm")),
        ("yx", {"spacing": (1, 1)}, ("LOCAL", "mm")),
    ],
)
def test_the_frame_of_a_regular_grid(axes: str, options: dict[str, Any], expected: tuple[str, str]) -> None:
    grid = Grid.regular(axes, (2,) * len(axes), **options)
    assert (grid.frame, grid.unit) == expected


@given(grids())
def test_equality_hash_and_pickle(grid: Grid) -> None:
    for again in (pickle.loads(pickle.dumps(grid)), copy.deepcopy(grid), grid.crop(Window.full(grid.shape))):
        assert again == grid
        assert hash(again) == hash(grid)
        assert again.matches(grid)
        assert not again.affine.flags.writeable
    assert grid != grid.affine.tolist()


def test_the_affine_is_the_grids_own() -> None:
    affine = np.eye(4)
    grid = Grid("zyx", (2, 2, 2), affine)
    affine[0, 3] = 7
    assert grid.origin == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 7
    for free in (grid.nifti_affine, grid.ras_affine, grid.direction):
        assert free.flags.writeable


@given(grids(), st.data())
def test_matches_to_within_a_share_of_the_spacing(grid: Grid, data: st.DataObject) -> None:
    assume(grid.spatial)
    axis = data.draw(st.integers(0, len(grid.spatial) - 1))
    for share, expected in ((0.5, True), (2.0, False)):
        affine = grid.affine.copy()
        affine[axis, -1] += share * 1e-3 * min(grid.spacing)
        other = Grid(grid.axes, grid.shape, affine, grid.frame, grid.unit)
        assert grid.matches(other) == other.matches(grid) == expected


def test_matches_looks_at_every_corner_and_at_the_spatial_box_only() -> None:
    grid = Grid.regular("zyx", (101, 11, 11), spacing=(1, 1, 1))
    stretched = Grid.regular("zyx", (101, 11, 11), spacing=(1.0001, 1, 1))
    assert not grid.matches(stretched)
    assert grid.matches(stretched, tolerance=0.02)
    assert not grid.matches(Grid.regular("zyx", (100, 11, 11), spacing=(1, 1, 1)))
    assert not grid.matches(Grid.regular("zyx", (101, 11, 11), spacing=(1, 1, 1), frame="LOCAL"))
    assert grid.matches(Grid.regular("tzyx", (5, 101, 11, 11), spacing=(1, 1, 1)))
    timeless = Grid("tc", (2, 3), np.eye(1), "LOCAL", "unknown")
    assert timeless.matches(timeless)


SINGULAR = np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
PERSPECTIVE = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0.5, 1]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid("xyz", (1, 1, 1), np.eye(4)), r"^axes must be a subsequence of 'tczyx'; got 'xyz'$"),
        (lambda: Grid("zyxx", (1,) * 4, np.eye(4)), r"^axes must be a subsequence of 'tczyx'; got 'zyxx'$"),
        (lambda: Grid("zyq", (1, 1, 1), np.eye(4)), r"^axes must be a subsequence of 'tczyx'; got 'zyq'$"),
        (lambda: Grid("zyx", (1, 1), np.eye(4)), r"^one length per axis is needed; got shape \(1, 1\) for axes 'zyx'$"),
        (lambda: Grid("zyx", (1, -1, 1), np.eye(4)), r"^one length per axis is needed; got shape \(1, -1, 1\)"),
        (
            lambda: Grid("zyx", (1, 1.5, 1), np.eye(4)),
            r"^the shape must be integers and the affine numbers; got \(1, 1",
        ),
        (lambda: Grid("zyx", (1, 1, 1), "one"), r"^the shape must be integers and the affine numbers; got .*'one'$"),
        (
            lambda: Grid("tzyx", (1,) * 4, np.eye(5)),
            r"^the affine of axes 'tzyx' must be 4 x 4; got \(5, 5\); spatial axes only$",
        ),
        (
            lambda: Grid("zyx", (1,) * 3, np.eye(4) * np.nan),
            r"^the affine must be finite and end in the row 0 … 0 1; got",
        ),
        (
            lambda: Grid("zyx", (1,) * 3, PERSPECTIVE),
            r"^the affine must be finite and end in the row 0 … 0 1; got \[\[",
        ),
        (
            lambda: Grid("zyx", (1,) * 3, SINGULAR),
            r"^the affine is singular: two axes are parallel or one has no length",
        ),
        (lambda: Grid.regular("yx", (1, 1), spacing=(1, 0)), r"^one positive spacing per spatial axis is needed"),
        (lambda: Grid.regular("yx", (1, 1), spacing=(1, -2)), r"^one positive spacing per spatial axis is needed"),
        (
            lambda: Grid("zyx", (1,) * 3, np.eye(4), "RAS"),
            r"^unknown frame or unit; got 'RAS', 'mm'; expected \('LPS', 'LOCAL'\), \('mm', 'um', 'unknown'\)$",
        ),
        (lambda: Grid("zyx", (1,) * 3, np.eye(4), "LOCAL", "inch"), r"^unknown frame or unit; got 'LOCAL', 'inch'"),
        (
            lambda: Grid("yx", (1, 1), np.eye(3)),
            r"^the LPS frame needs the axes z, y, x and mm; got axes 'yx', unit 'mm'$",
        ),
        (lambda: Grid("zyx", (1,) * 3, np.eye(4), "LPS", "um"), r"^the LPS frame needs .* got axes 'zyx', unit 'um'$"),
        (
            lambda: Grid.regular("zyx", (1,) * 3, spacing=(1, 1)),
            r"^one positive spacing per spatial axis is needed; got \(1\.0, 1\.0\) for axes 'zyx'$",
        ),
        (
            lambda: Grid.regular("zyx", (1,) * 3, origin=(1, 1)),
            r"^one origin coordinate per spatial axis is needed; got \(1, 1\) for axes 'zyx'$",
        ),
        (lambda: Grid.from_nifti("zyx", (1,) * 3, np.eye(3)), r"^a NIfTI affine must be 4 x 4; got \(3, 3\)$"),
        (
            lambda: Grid.regular("zyx", (1,) * 3).nifti_affine,
            r"^a NIfTI affine needs patient coordinates; got frame LOCAL; expected LPS$",
        ),
        (
            lambda: Grid.regular("yx", (4, 4)).crop(Window((0,), (1,))),
            r"^the window has another number of axes than the grid; got window \(0,\) \+ \(1,\); expected axes 'yx'$",
        ),
        (lambda: Grid.regular("yx", (4, 4)).flip(2), r"^the grid has no such axis; got 2; expected an axis of 'yx'$"),
        (lambda: Grid.regular("yx", (4, 4)).flip(-3), r"^the grid has no such axis; got -3; expected an axis of 'yx'$"),
        (
            lambda: Grid.regular("tyx", (2, 4, 4)).permute((0, 2, 1)),
            r"^not a permutation of the spatial axes; got \(0, 2, 1\); expected of \[0, 1\]$",
        ),
    ],
)
def test_contradictions_are_refused(make, message: str) -> None:
    with pytest.raises(GridError, match=message):
        make()


@pytest.mark.parametrize("entry", [2e-311, 1e-200, 1e200])
def test_numbers_near_the_ends_of_float64_are_refused_without_noise(entry: float) -> None:
    affine = np.eye(4)
    affine[:2, :2] = [[1, 1], [0, entry]] if entry < 1 else [[entry, entry], [1, 0]]
    with pytest.raises(GridError, match=r"^the affine is singular"):
        Grid("zyx", (1, 1, 1), affine)


def test_a_tiny_voxel_is_not_singular() -> None:
    assert Grid.regular("zyx", (1, 1, 1), spacing=(1e-4,) * 3).spacing == (1e-4,) * 3


def test_a_grid_outside_the_patient_keeps_its_world() -> None:
    grid = Grid.regular("zyx", (2, 2, 2), spacing=(1, 2, 3), frame="LOCAL")
    np.testing.assert_array_equal(grid.ras_affine, grid.affine)
