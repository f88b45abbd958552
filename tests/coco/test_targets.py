"""Target dictionaries: their keys, and the voxels they ask for, against numpy and exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndvol.coco.keys import ALIASES, KEYS, UNSUPPORTED, known_keys
from ndvol.coco.lattice import Box, Lattice, lattice_of
from ndvol.coco.patch import read_patch, reading_of
from ndvol.coco.resample import apply_weights, margin, scaled_length, weights
from ndvol.errors import OptionError, WindowError

AXES = ["x", "yx", "zyx", "tzyx"]


@pytest.mark.parametrize(
    ("key", "nearest"), [("widht", "width"), ("window_dim", "window_dims"), ("imageid", "image_id"), ("Cx", "cx")]
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(key, nearest):
    with pytest.raises(OptionError, match=f"did you mean '{nearest}'") as caught:
        known_keys({"gid": 1, key: 3})
    assert (caught.value.code, caught.value.key) == ("unknown-key", key)


def test_a_key_like_no_other_lists_what_there_is():
    with pytest.raises(OptionError, match="there are aid, aids, annot_ids"):
        known_keys({"qqqqqq": 1})


def test_every_promised_key_is_known():
    promised = "gid image_id vidid gids aid slices space_slice time_slice cx cy cz width height depth window_dims pad"
    promised += " padkw channels scale interpolation as_xarray dtype annot_ids visible_thresh"
    assert set(promised.split()) <= {*KEYS, *ALIASES}


@pytest.mark.parametrize("key", UNSUPPORTED)
def test_what_ndsampler_can_and_this_cannot_is_refused_unless_switched_off(key):
    assert known_keys({key: UNSUPPORTED[key][0], "gid": 1}) == {"gid": 1}
    with pytest.raises(OptionError, match=f"{key!r} is not offered"):
        known_keys({key: "something"})


def test_names_of_one_key_must_agree_and_none_counts_as_absent():
    assert known_keys({"gid": 3, "image_id": 3, "pad": None}) == {"gid": 3}
    assert known_keys({"gids": np.array([1, 2]), "image_ids": [1, 2]})["gids"] == [1, 2]
    with pytest.raises(OptionError, match="contradict"):
        known_keys({"gid": 3, "image_id": 4})
    with pytest.raises(OptionError, match="must be a dictionary"):
        known_keys([("gid", 1)])


numbers = st.floats(-1e6, 1e6, allow_nan=False)
lengths = st.floats(0, 1e4, allow_nan=False)


@given(numbers, lengths, numbers, lengths)
def test_a_centre_and_an_extent_give_floor_and_exactly_ceil(cx, width, cy, height):
    found = lattice_of({"cx": cx, "cy": cy, "width": width, "height": height}, "yx", (10, 10))
    for axis, (c, d) in enumerate(((cy, height), (cx, width))):
        assert found.start[axis] == floor(Fraction(c) - Fraction(d) / 2)
        assert found.count[axis] == ceil(Fraction(d))


@given(st.floats(-1e3, 1e3), st.floats(0.1, 300))
def test_an_annotation_starts_where_its_box_does(x, width):
    box = Box({"y": 0.0, "x": x}, {"y": 1.0, "x": width})
    row = box.keys()
    for target in ({}, row):
        found = lattice_of(target, "yx", (10, 10), box)
        assert (found.start[1], found.count[1]) == (floor(x), ceil(width))


def test_window_dims_are_lengths_the_extent_or_a_square():
    base = {"cx": 20, "cy": 10.5, "cz": 4, "width": 6.2, "height": 3, "depth": 2}
    shape = (9, 30, 40)
    assert lattice_of(base, "zyx", shape) == lattice_of(base | {"window_dims": "extent"}, "zyx", shape)
    assert lattice_of(base, "zyx", shape).count == (2, 3, 7)
    square = lattice_of(base | {"window_dims": "square"}, "zyx", shape)
    assert square == Lattice((floor(4 - 3.1), floor(10.5 - 3.1), floor(20 - 3.1)), (7, 7, 7), (1, 1, 1))
    given = lattice_of(base | {"window_dims": (4, 5, 64)}, "zyx", shape)
    assert given == Lattice((2, 8, -12), (4, 5, 64), (1, 1, 1))
    assert lattice_of({"cx": 5, "width": 3}, "zyx", shape).count == (9, 30, 3), "what nothing says is whole"


@given(st.sampled_from(AXES), st.data())
def test_slices_are_half_open_and_negative_starts_lie_outside(axes, data):
    shape = [data.draw(st.integers(1, 6)) for _ in axes]
    parts = []
    for _ in axes:
        start = data.draw(st.integers(-8, 8))
        parts.append(slice(start, start + data.draw(st.integers(0, 9)), data.draw(st.sampled_from([None, 1, 2, 3]))))
    found = lattice_of({"slices": tuple(parts)}, axes, shape)
    for axis, part in enumerate(parts):
        assert found.indices(axis).tolist() == list(range(part.start, part.stop, part.step or 1))
    valid = found.valid(shape)
    for axis, n in enumerate(shape):
        inside = [k for k, i in enumerate(found.indices(axis).tolist()) if 0 <= i < n]
        assert list(range(valid.start[axis], valid.stop[axis])) == inside
    space = {"space_slice": tuple(p for a, p in zip(axes, parts, strict=True) if a != "t")}
    space |= {"time_slice": parts[0]} if "t" in axes else {}
    assert lattice_of(space, axes, shape) == found


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"slices": (slice(0, 2),)}, "one slice per axis"),
        ({"slices": (slice(0, 2), 3)}, "slices only"),
        ({"slices": (slice(0, 2.5), slice(None))}, "must be integers"),
        ({"slices": (slice(5, 2), slice(None))}, "run forward"),
        ({"slices": (slice(5, 2, -1), slice(None))}, "run forward"),
        ({"time_slice": slice(0, 2)}, "no time axis"),
        ({"cz": 3, "depth": 2}, "no axis 'z'"),
        ({"cx": 3, "cy": 3, "width": 2}, "no 'height'"),
        ({"width": 3}, "no place"),
        ({"window_dims": (3, 3)}, "no place"),
        ({"window_dims": "square"}, "needs extents"),
        ({"cx": 3, "cy": 3, "window_dims": (3, 3, 3)}, "makes no sense"),
        ({"cx": 3, "cy": 3, "window_dims": 3}, "makes no sense"),
        ({"cx": 3, "cy": 3, "window_dims": "full"}, "makes no sense"),
        ({"cx": float("nan"), "cy": 3, "window_dims": (1, 1)}, "finite number"),
        ({"cx": "a", "cy": 3, "window_dims": (1, 1)}, "finite number"),
        ({"cx": 1, "cy": 3, "width": -2, "height": 1}, "must be a length"),
        ({"space_slice": (slice(0, 3), slice(0, 3)), "window_dims": (4, 3)}, "contradict each other on axis 'y'"),
    ],
)
def test_windows_that_make_no_sense_are_refused(target, message):
    with pytest.raises((OptionError, WindowError), match=message):
        lattice_of(target, "yx", (9, 9))


class Array:
    """A scene that is an array with channels last."""

    def __init__(self, array, axes):
        self.array, self.axes, self.shape = array, axes, array.shape[:-1]

    def dtype(self, channels):
        return self.array.dtype

    def take(self, indices, channels):
        assert all(len(i) and i.min() >= 0 and i.max() < n for i, n in zip(indices, self.shape, strict=True))
        return self.array[np.ix_(*indices)][..., list(map(int, channels))]


@given(st.sampled_from(AXES), st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]), st.data())
def test_a_patch_is_what_numpy_pads_and_cuts(axes, mode, data):
    shape = [data.draw(st.integers(1, 5)) for _ in axes]
    array = np.random.default_rng(0).integers(1, 1000, (*shape, 2)).astype(np.int16)
    lattice = Lattice(
        tuple(data.draw(st.integers(-9, 9)) for _ in axes),
        tuple(data.draw(st.integers(0, 5)) for _ in axes),
        tuple(data.draw(st.integers(1, 3)) for _ in axes),
    )
    pad = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in axes]
    padkw = {"mode": mode, "constant_values": -7} if mode == "constant" else {"mode": mode}
    reading = reading_of({"pad": pad, "padkw": padkw}, axes)
    patch = read_patch(Array(array, axes), lattice.padded(reading.pad), reading, ("0", "1"))
    wanted = [lattice.padded(pad).indices(a) for a in range(len(axes))]
    # As far as the patch reaches: in four axes, more would be most of the suite's time.
    margins = [
        (max(0, -min(i, default=0)), max(0, max(i, default=0) - n + 1)) for i, n in zip(wanted, shape, strict=True)
    ]
    full = np.pad(array, [*margins, (0, 0)], **padkw)
    expected = full[np.ix_(*(i + before for i, (before, _) in zip(wanted, margins, strict=True)))]
    assert patch.dtype == np.int16
    np.testing.assert_array_equal(patch, expected)


@given(st.floats(0.2, 4), st.integers(1, 30), st.sampled_from(["linear", "cubic", "nearest"]), st.booleans())
def test_resampling_keeps_constants_and_straight_lines(scale, length, interpolation, antialias):
    extra = margin(scale, interpolation, antialias)
    table = weights(length, scale, extra, interpolation, antialias)
    assert table.shape == (scaled_length(length, scale), length + 2 * extra)
    np.testing.assert_allclose(table.sum(1), 1)
    at = (np.arange(len(table)) + 0.5) / scale - 0.5
    line = np.arange(-extra, length + extra, dtype=np.float64)
    if interpolation == "nearest":
        np.testing.assert_allclose(table @ line, np.clip(np.floor(at + 0.5), 0, length - 1))
    elif not antialias:
        np.testing.assert_allclose(table @ line, at, atol=1e-9)


def test_resampling_halves_by_the_mean_and_never_wraps():
    array = np.array([0, 0, 250, 250, 0, 0], np.uint8)
    table = weights(6, 2, 0, "cubic", True)
    grown = apply_weights(array, [table])
    assert grown.dtype == np.uint8
    exact = table @ array.astype(float)
    assert exact.min() < 0, "cubic overshoots, which must not wrap"
    np.testing.assert_array_equal(grown, np.clip(np.rint(exact), 0, 255))
    both = np.array([[np.nan, 1.0, 2.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    halved = apply_weights(both, [None, weights(4, 0.5, 0, "nearest", False)])
    np.testing.assert_array_equal(halved, [[1, 4], [0, 0]])


@given(st.sampled_from(["linear", "cubic"]), st.sampled_from([0.25, 0.5, 1.25, 2.0, 2.5]), st.integers(-3, 5))
def test_a_scaled_patch_has_no_border(interpolation, scale, quarter):
    start = 4 * quarter
    array = np.random.default_rng(1).normal(size=(20, 1))
    target = {"scale": scale, "interpolation": interpolation, "padkw": {"mode": "edge"}}
    reading = reading_of(target, "x")
    whole = read_patch(Array(array, "x"), Lattice((-32,), (96,), (1,)), reading, ("0",))
    part = read_patch(Array(array, "x"), Lattice((start,), (8,), (1,)), reading, ("0",))
    first = round((start + 32) * scale)
    np.testing.assert_allclose(part, whole[first : first + scaled_length(8, scale)], atol=1e-9)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"pad": -1}, "'pad'"),
        ({"pad": (1, 2, 3)}, "'pad'"),
        ({"pad": (1, (2, 3, 4))}, "'pad'"),
        ({"pad": 1.5}, "'pad'"),
        ({"pad": "a"}, "'pad'"),
        ({"padkw": {"mode": "mean"}}, "padding is not offered"),
        ({"padkw": {"mode": "constant", "constant_values": (1, 2)}}, "padding is not offered"),
        ({"padkw": {"mod": "edge"}}, "'padkw'"),
        ({"padkw": "edge"}, "'padkw'"),
        ({"scale": 0}, "'scale'"),
        ({"scale": (1, 2, 3)}, "'scale'"),
        ({"scale": float("nan")}, "'scale'"),
        ({"interpolation": "lanczos"}, "unknown interpolation"),
    ],
)
def test_readings_that_make_no_sense_are_refused(target, message):
    with pytest.raises(OptionError, match=message):
        reading_of(target, "yx")


def test_values_never_wrap_into_another_type():
    scene = Array(np.array([[-5], [300]], np.int16), "x")
    whole = Lattice((0,), (2,), (1,))
    assert read_patch(scene, whole, reading_of({"dtype": "float32"}, "x"), ("0",)).dtype == np.float32
    with pytest.raises(OptionError, match="do not fit the type uint8"):
        read_patch(scene, whole, reading_of({"dtype": np.uint8}, "x"), ("0",))
    outside, reading = Lattice((-1,), (2,), (1,)), reading_of({"padkw": {"constant_values": 1e9}}, "x")
    with pytest.raises(WindowError, match="fill_value does not fit"):
        read_patch(scene, outside, reading, ("0",))
