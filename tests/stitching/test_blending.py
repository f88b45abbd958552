"""SlabMean against sums over the whole volume."""

from __future__ import annotations

import numpy as np
import pytest
from blending_oracle import MODES, bell, tilings, weighted_mean
from hypothesis import given
from hypothesis import strategies as st

from ndvol.geometry import SlidingWindows, Window
from ndvol.geometry.blending import SlabMean, axis_weights, disjoint


class Collector:
    """Puts emitted blocks together and notes what came when."""

    def __init__(self, windows: SlidingWindows, channels: int) -> None:
        self.volume = np.full((channels, *windows.shape), np.nan, np.float32)
        self.boxes: list[Window] = []

    def __call__(self, start: tuple[int, ...], block: np.ndarray) -> None:
        box = Window(start, block.shape[1:])
        assert box.size > 0
        assert np.isnan(self.volume[:, *box.slices]).all(), "a voxel came twice"
        self.volume[:, *box.slices] = block
        block[:] = np.nan  # the block is the callee's
        self.boxes.append(box)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [1, 2, 3, 8, 97, 128])
def test_weights_are_the_textbook_ones_and_positive(mode, length):
    weights = axis_weights(mode, length)
    assert np.allclose(weights, bell(mode, length), rtol=1e-9, atol=1e-15)
    assert weights.min() > 0
    assert np.array_equal(weights, weights[::-1]) or np.allclose(weights, weights[::-1], rtol=1e-12)
    # Even the corner of a window of five axes is a normal number of float32, whose sums lose nothing.
    assert weights.min() ** 5 > np.finfo(np.float32).tiny


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_equals_the_weighted_mean(mode, data):
    windows = data.draw(tilings())
    channels = data.draw(st.integers(1, 3))
    step = data.draw(st.sampled_from([1, 2, 3, 5]))
    leading = int(len(windows.shape) > 1 and disjoint(windows, 0) and data.draw(st.booleans()))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    patches = rng.normal(0, 100, (len(windows), channels, *windows.window)).astype(np.float32)

    found = Collector(windows, channels)
    slabs = SlabMean(windows, mode, channels, found, leading=leading, step=step)
    for number, patch in enumerate(patches, start=1):
        slabs.add(patch)
        # What no later window touches has been emitted already, but for less than a step of rows.
        if number < len(windows):
            start = windows[number].start[: leading + 1]
            for later in range(number, len(windows)):
                assert windows[later].start[: leading + 1] >= start
            done = found.boxes[-1].stop[leading] if found.boxes and found.boxes[-1].start[:leading] == start[:-1] else 0
            assert done == start[-1] // step * step
    assert not np.isnan(found.volume).any()
    assert all(box.start[leading] % step == 0 for box in found.boxes)
    expected = weighted_mean(windows, mode, patches)
    assert np.abs(found.volume - expected).max() <= 1e-5 * np.abs(patches).max()


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_agreeing_patches_come_back_bit_for_bit(mode, data):
    windows = data.draw(tilings())
    value = data.draw(st.floats(-(2.0**99), 2.0**99, width=32))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    volume = rng.normal(0, 1, windows.shape).astype(np.float32) * np.float32(10) ** rng.integers(-30, 30, windows.shape)
    volume = np.stack([np.full(windows.shape, value, np.float32), volume.astype(np.float32)])
    found = Collector(windows, 2)
    slabs = SlabMean(windows, mode, 2, found)
    for window in windows:
        clip = window.clip(windows.shape)
        patch = rng.normal(0, 1, (2, *window.shape)).astype(np.float32)
        patch[:, *clip.placement] = volume[:, *clip.inside]
        slabs.add(patch)
    assert np.array_equal(found.volume, volume)


@given(tilings())
def test_holds_no_more_than_a_slab(windows):
    def held(leading: int, step: int) -> int:
        return SlabMean(windows, "mean", 2, lambda start, block: None, leading=leading, step=step)._slab.size

    shape, window = windows.shape, windows.window
    depth, plane = min(window[0], shape[0]), int(np.prod(shape[1:]))
    assert held(0, 1) == 2 * depth * plane
    assert held(0, 4) <= 2 * (depth + 3) * plane
    if len(shape) > 1 and disjoint(windows, 0):
        assert held(1, 1) == 2 * depth * min(window[1], shape[1]) * int(np.prod(shape[2:]))
