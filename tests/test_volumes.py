"""Volumes index and read like numpy arrays, whatever the number of axes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices

from ndvol.errors import GridError, NdvolError, OptionError, UnknownNameError, WindowError
from ndvol.geometry import Grid, Window
from ndvol.label_index import LabelIndex
from ndvol.volumes import ArrayLabelSource, ArraySource, Case, LabelVolume, Volume, valid_window

AXES = {1: "z", 2: "yx", 3: "zyx", 4: "tzyx"}
SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)


def volume_of(array: np.ndarray) -> Volume:
    return Volume("toy", Grid.regular(AXES[array.ndim], array.shape), ArraySource(array))


def numbered(shape: tuple[int, ...], dtype: Any = np.int32) -> np.ndarray:
    """Every voxel differs from every other and from the fill values of the tests."""
    return np.arange(1, 1 + np.prod(shape, dtype=int), dtype=dtype).reshape(shape)


@st.composite
def windows(draw: st.DrawFn, shape: tuple[int, ...]) -> Window:
    """Windows that lie inside, across every border, wholly outside, or hold nothing."""
    start = [draw(st.integers(-8, n + 4)) for n in shape]
    return Window(tuple(start), tuple(draw(st.integers(0, 9)) for _ in shape))


def padded_patch(array: np.ndarray, window: Window, fill_value: float) -> np.ndarray:
    """The patch by `np.pad`: pad so far that the window lies inside, then slice."""
    before = [max(0, -a) for a in window.start]
    after = [max(0, b - n) for b, n in zip(window.stop, array.shape, strict=True)]
    wide = np.pad(array, list(zip(before, after, strict=True)), constant_values=fill_value)
    return wide[tuple(slice(a + p, b + p) for a, b, p in zip(window.start, window.stop, before, strict=True))]


@given(SHAPES.flatmap(lambda s: st.tuples(st.just(s), basic_indices(s, allow_newaxis=False))))
def test_indexing_equals_numpy(case: tuple[tuple[int, ...], Any]) -> None:
    shape, key = case
    array = numbered(shape)
    found = volume_of(array)[key]
    assert isinstance(found, np.ndarray)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array[key], strict=np.ndim(array[key]) > 0)


@st.composite
def any_slices(draw: st.DrawFn, n: int) -> slice:
    """All that a slice may be, also far out of range; `basic_indices` seldom goes there."""
    bound = st.none() | st.integers(-2 * n - 3, 2 * n + 3)
    return slice(draw(bound), draw(bound), draw(st.none() | st.integers(-n - 2, n + 2).filter(bool)))


@given(SHAPES.flatmap(lambda s: st.tuples(st.just(s), st.tuples(*map(any_slices, s)))))
def test_slices_with_any_bounds_and_step_equal_numpy(case: tuple[tuple[int, ...], tuple[slice, ...]]) -> None:
    shape, key = case
    array = numbered(shape)
    np.testing.assert_array_equal(volume_of(array)[key], array[key], strict=True)


def test_indexing_reads_only_the_box_it_needs() -> None:
    read: list[Window] = []

    class Spy(ArraySource):
        def read_into(self, window: Window, out: np.ndarray, **options: Any) -> Window:
            read.append(window)
            return super().read_into(window, out, **options)

    array = numbered((10, 20))
    volume = Volume("toy", Grid.regular("yx", (10, 20)), Spy(array))
    np.testing.assert_array_equal(volume[8:2:-3, np.int64(-1)], array[8:2:-3, -1])
    assert read == [Window((5, 19), (4, 1))]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (4, r"^index 4 is out of range for an axis of 4$"),
        ((0, -7), r"^index -7 is out of range for an axis of 6$"),
        ((1, 2, 3), r"^3 indices for a volume of 2 axes$"),
        ((..., 1, 2, 3), r"^3 indices for a volume of 2 axes$"),
        ((..., ...), r"^a volume takes integers, slices and \.\.\., not ellipsis$"),
        (None, r"^a volume takes integers, slices and \.\.\., not NoneType$"),
        ([0, 1], r"^a volume takes integers, slices and \.\.\., not list$"),
        (True, r"^a volume takes integers, slices and \.\.\., not bool$"),
        (1.0, r"^a volume takes integers, slices and \.\.\., not float$"),
        (np.array([True, False, True, False]), r"^a volume takes integers, slices and \.\.\., not ndarray$"),
    ],
)
def test_what_is_not_a_basic_index_is_refused(key: Any, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        volume_of(numbered((4, 6)))[key]


@given(SHAPES.flatmap(lambda s: st.tuples(st.just(s), windows(s))), st.integers(-5, 0))
def test_read_equals_a_slice_of_the_padded_array(case: tuple[tuple[int, ...], Window], fill_value: int) -> None:
    shape, window = case
    array = numbered(shape)
    expected = padded_patch(array, window, fill_value)
    found = volume_of(array).read(window, fill_value=fill_value)
    np.testing.assert_array_equal(found, expected, strict=True)
    out = np.full(window.shape, 99, np.float64)
    assert volume_of(array).read(window, out=out, fill_value=fill_value) is out
    np.testing.assert_array_equal(out, expected)


@given(SHAPES.flatmap(lambda s: st.tuples(st.just(s), windows(s))))
def test_the_valid_window_marks_the_real_voxels(case: tuple[tuple[int, ...], Window]) -> None:
    shape, window = case
    array = numbered(shape)
    patch = np.empty(window.shape, array.dtype)
    valid = ArraySource(array).read_into(window, patch, fill_value=0)
    assert valid == valid_window(window, shape)
    mask = np.zeros(window.shape, bool)
    mask[valid.slices] = True
    np.testing.assert_array_equal(mask, patch > 0)


@pytest.mark.parametrize("ndim", AXES)
def test_as_an_array(ndim: int) -> None:
    array = numbered((2, 3, 4, 5)[:ndim], np.int16)
    volume = volume_of(array)
    np.testing.assert_array_equal(np.asarray(volume), array, strict=True)
    np.testing.assert_array_equal(np.asarray(volume, np.float32), array.astype(np.float32), strict=True)
    with pytest.raises(ValueError, match=r"^a volume is read from its source, so a copy is always made$"):
        np.array(volume, copy=False)
    assert (volume.axes, volume.shape, volume.ndim, volume.dtype, volume.levels) == (
        AXES[ndim],
        array.shape,
        ndim,
        array.dtype,
        1,
    )


def test_the_patch_is_the_callers_own() -> None:
    array = numbered((3, 3))
    patch = volume_of(array).read(Window.full((3, 3)))
    patch[...] = 0
    assert array.all()


@pytest.mark.parametrize(
    ("window", "options", "message"),
    [
        (Window((0,), (2,)), {}, r"^the window does not fit volume 'toy'; got 1 axes; expected 2, 'yx'$"),
        (Window((0, 0), (2, 2)), {"level": 1}, r"^volume 'toy' has no level 1; expected 0 … 0$"),
        (Window((0, 0), (2, 2)), {"level": -1}, r"^volume 'toy' has no level -1; expected 0 … 0$"),
        (
            Window((0, 0), (2, 2)),
            {"out": np.empty((2, 3))},
            r"^out has another shape than the window; got \(2, 3\); expected \(2, 2\)$",
        ),
        (
            Window((0, 0), (2, 2)),
            {"out": np.empty((2, 2, 1))},
            r"^out has another shape than the window; got \(2, 2, 1\); expected \(2, 2\)$",
        ),
    ],
)
def test_a_read_that_does_not_fit_is_refused(window: Window, options: dict[str, Any], message: str) -> None:
    with pytest.raises(WindowError, match=message):
        volume_of(numbered((4, 6))).read(window, **options)


@pytest.mark.parametrize(
    ("dtype", "fill_value"),
    [
        ("u1", -1),
        ("u1", 256),
        ("i2", 32768),
        ("i2", 0.5),
        ("i2", float("nan")),
        ("i2", float("inf")),
        ("i8", 2**63),
        ("?", 2),
        ("f2", 1e6),
        ("f4", -1e39),
    ],
)
def test_a_fill_value_that_the_type_cannot_hold_is_refused(dtype: str, fill_value: float) -> None:
    volume = volume_of(numbered((4, 6)).astype(dtype))
    with pytest.raises(WindowError) as caught:
        # Refused also where nothing would be filled: whether a call is right does not hang on where it reads.
        volume.read(Window((0, 0), (1, 1)), fill_value=fill_value)
    assert str(caught.value) == f"fill_value does not fit the type {np.dtype(dtype)}; got {fill_value}"


@pytest.mark.parametrize(
    ("dtype", "fill_value"),
    [
        ("u1", 255),
        ("i2", -1024.0),
        ("u8", 2**64 - 1),
        ("i8", -(2**63)),
        ("?", 1),
        ("f4", 0.1),
        ("f4", float("inf")),
        ("f2", -1024),
        ("c8", 3),
    ],
)
def test_a_fill_value_that_fits_arrives(dtype: str, fill_value: float) -> None:
    patch = volume_of(np.zeros((2, 2), dtype)).read(Window((-1, 0), (1, 2)), fill_value=fill_value)
    assert patch.tolist() == np.full((1, 2), fill_value, dtype).tolist()


def test_nan_fills_a_float_volume() -> None:
    assert np.isnan(volume_of(np.zeros(3)).read(Window((3,), (2,)), fill_value=float("nan"))).all()


def test_the_type_of_out_decides_about_the_fill_value() -> None:
    volume = volume_of(np.zeros((2, 2), np.uint8))
    patch = volume.read(Window((-1, 0), (1, 2)), out=np.empty((1, 2), np.int16), fill_value=-1024)
    assert patch.tolist() == [[-1024, -1024]]
    with pytest.raises(WindowError, match=r"^fill_value does not fit the type uint8; got -1024$"):
        volume.read(Window((0, 0), (1, 2)), fill_value=-1024)


def label_volume(array: np.ndarray) -> LabelVolume:
    grid = Grid.regular(AXES[array.ndim], array.shape, spacing=(1.0,) * min(array.ndim, 3))
    return LabelVolume("organs", grid, ArrayLabelSource(array), {"note": "made"}, {1: "kidney", 2: "cyst"})


def test_volumes_survive_pickle() -> None:
    labels = np.array([[0, 1, 2], [0, 1, 0]], np.uint8)
    volume = label_volume(labels)
    again = pickle.loads(pickle.dumps(volume))
    assert type(again) is LabelVolume
    assert (again.name, again.grid, again.attributes, again.categories) == (
        volume.name,
        volume.grid,
        volume.attributes,
        volume.categories,
    )
    np.testing.assert_array_equal(again[...], labels, strict=True)
    assert again.index.count(1) == 2


def test_label_index_is_counted_once() -> None:
    volume = label_volume(np.array([[0, 1, 2], [0, 1, 0]], np.uint8))
    assert isinstance(volume.index, LabelIndex)
    assert volume.index is volume.index
    assert [volume.index.count(v) for v in (1, 2, 3)] == [2, 1, 0]


def test_a_case_finds_its_volumes_by_name() -> None:
    image, labels = volume_of(numbered((2, 3))), label_volume(np.array([[0, 1, 2], [0, 1, 0]], np.uint8))
    case = Case("case-1", {"CT": image}, {"organs": labels})
    assert case["CT"] is image
    assert case["organs"] is labels
    with pytest.raises(UnknownNameError) as caught:
        case["PET"]
    assert str(caught.value) == "case 'case-1' has no volume 'PET'; expected one of CT, organs"
    assert isinstance(caught.value, NdvolError)


def test_a_grid_of_another_shape_is_refused():
    with pytest.raises(GridError, match=r"volume 'CT' has another shape.*\(2, 3\).*\(3, 2\)"):
        Volume("CT", Grid.regular("yx", (3, 2)), ArraySource(np.zeros((2, 3))))


def repeated_patch(array: np.ndarray, window: Window, mode: str) -> np.ndarray:
    """The patch by `np.pad` with a mode that repeats the array's own voxels."""
    before = [max(0, -a) for a in window.start]
    after = [max(0, b - n) for b, n in zip(window.stop, array.shape, strict=True)]
    wide = np.pad(array, list(zip(before, after, strict=True)), mode=mode)
    return wide[tuple(slice(a + p, b + p) for a, b, p in zip(window.start, window.stop, before, strict=True))]


@pytest.mark.parametrize("mode", ["edge", "reflect"])
@given(
    array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6).flatmap(lambda s: st.tuples(st.just(s), windows(s)))
)
def test_outside_the_volume_its_own_voxels_are_repeated(mode: str, case: tuple[tuple[int, ...], Window]) -> None:
    shape, window = case
    array = numbered(shape)
    found = volume_of(array).read(window, pad_mode=mode, fill_value=0.5)
    np.testing.assert_array_equal(found, repeated_patch(array, window, mode), strict=True)


@pytest.mark.parametrize(("mode", "expected"), [("edge", [4, 4]), ("reflect", [2, 3])])
def test_voxels_are_repeated_however_far_away(mode: str, expected: list[int]) -> None:
    assert volume_of(numbered((4,))).read(Window((6 * 10**30 + 1,), (2,)), pad_mode=mode).tolist() == expected


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_nothing_cannot_be_repeated(mode: str) -> None:
    empty = volume_of(np.zeros((0, 3)))
    assert empty.read(Window((5, 0), (0, 2)), pad_mode=mode).shape == (0, 2)
    with pytest.raises(WindowError, match=r"of which there must be some; got a volume of \(0, 3\)"):
        empty.read(Window((0, 0), (1, 1)), pad_mode=mode)
    with pytest.raises(OptionError, match="no such pad_mode; got 'wrap'; expected one of"):
        volume_of(numbered((4,))).read(Window((0,), (2,)), pad_mode="wrap")  # type: ignore[arg-type]
