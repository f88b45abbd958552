"""Ranges of grey values and outlines, against what a person would say."""

from __future__ import annotations

import numpy as np
import pytest

from ndvol.display import outline, presets, to_grey
from ndvol.geometry import Grid
from ndvol.volumes import ArraySource, Volume


def volume(values: np.ndarray, **attributes: str) -> Volume:
    return Volume("toy", Grid.regular("zyx", values.shape), ArraySource(values), attributes)


def test_ct_in_hounsfield_units_gets_the_clinical_windows():
    values = np.full((1, 4, 4), -1000, np.int16)
    assert [p.name for p in presets(volume(values, modality="CT"), values)][:2] == ["soft tissue", "lung"]


@pytest.mark.parametrize(("modality", "least"), [("MR", -1000), ("CT", 0)])
def test_all_else_gets_percentiles(modality, least):
    values = np.arange(1000, dtype=np.float32).reshape(10, 10, 10) + least
    first, last = presets(volume(values, modality=modality), values)
    assert (first.low, first.high) == pytest.approx((least + 9.99, least + 989.01))
    assert (last.low, last.high) == (least, least + 999)


def test_values_that_are_not_finite_are_neither_counted_nor_shown_as_grey():
    values = np.array([[np.nan, np.inf, -np.inf, 1.0, 3.0]], np.float32)
    (first, last) = presets(volume(values[None]), values)
    assert (last.low, last.high) == (1.0, 3.0)
    assert first.low >= 1.0
    assert to_grey(values, (1.0, 3.0)).tolist() == [[0, 255, 0, 0, 255]]
    assert presets(volume(values[None]), np.full(3, np.nan))[0].high == 1.0


def test_the_border_of_the_picture_is_not_an_outline():
    assert not outline(np.ones((5, 5), bool)).any()
    mask = np.zeros((5, 5), bool)
    mask[:, :3] = True
    assert np.array_equal(np.flatnonzero(outline(mask).any(0)), [2])
