"""Samples of pyramid levels against the arrays of the levels and the objects of level 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import TREE, VALUES, Toy, catalog_of, object_masks, random_labels

from ndvol.catalog import Catalog
from ndvol.errors import WindowError
from ndvol.geometry import Grid, Window
from ndvol.geometry.matching import matching_box
from ndvol.geometry.pyramid import level_factor, level_factors, level_grids, level_majorities, level_means
from ndvol.levels import at_level
from ndvol.sampler import Reading, VolumeSampler
from ndvol.sampling import Mix, Negative, Positive, Target
from ndvol.store import CaseWriter, open_case
from ndvol.volumes import valid_window

RNG = np.random.default_rng(0)
CT, PET = RNG.integers(-500, 500, (7, 16, 19)).astype(np.int16), RNG.random((6, 7, 8)).astype(np.float32)
LABELS = random_labels(RNG, CT.shape, 0.1)
CT_GRID = Grid.regular("zyx", CT.shape, spacing=(2, 1, 1), origin=(-9, -8, -10))
PET_GRID = Grid.regular("zyx", PET.shape, spacing=(4, 2.5, 2), origin=(-7, -11, -8))
GRIDS = (CT_GRID, *level_grids(CT_GRID, 3))
FACTORS = [level_factor(CT_GRID, grid) for grid in GRIDS]
STEPS = level_factors(CT_GRID, GRIDS[1:])
IMAGES = [CT, *level_means(CT, STEPS)]
MAPS = [LABELS, *level_majorities(LABELS, STEPS, dict.fromkeys(VALUES, Window.full(CT.shape)))]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    path = tmp_path_factory.mktemp("levels") / "a.h5"
    with CaseWriter(path, case="a", levels=3) as writer:
        writer.add_image("CT", CT, CT_GRID)
        writer.add_image("PET", PET, PET_GRID)
        writer.add_label("organs", LABELS, CT_GRID, categories=VALUES, objects="category")
    known = catalog_of({"a": Toy({"CT": CT, "PET": CT}, {"organs": LABELS})})
    return Catalog(list(known.records.values()), TREE, lambda record: open_case(path))


def oracle(array, window, outside):
    patch = np.full(window.shape, outside, array.dtype)
    clip = window.clip(array.shape)
    patch[clip.placement] = array[clip.inside]
    return patch


@pytest.mark.parametrize("level", [0, 1, 2])
@given(st.tuples(*[st.integers(-5, 12)] * 3), st.tuples(*[st.integers(0, 9)] * 3))
def test_a_sample_shows_the_voxels_of_its_level(catalog, level, start, shape):
    window, grid, factor = Window(start, shape), GRIDS[level], FACTORS[level]
    sampler = VolumeSampler(catalog, (4, 4, 4), reading=Reading(-5))
    sample = sampler.load_sample(Target("a", window, level=level))
    np.testing.assert_array_equal(sample.images["CT"], oracle(IMAGES[level], window, -5), strict=True)
    np.testing.assert_array_equal(sample.labels["organs"], oracle(MAPS[level], window, 0), strict=True)
    assert (sample.grid, sample.valid) == (grid.crop(window), valid_window(window, grid.shape))
    pet = at_level(catalog["a"].images["PET"], level)
    box = matching_box(grid, window, pet.grid)
    np.testing.assert_array_equal(sample.images["PET"], pet.read(box, fill_value=-5), strict=True)
    assert list(sample.places) == ["images/PET"]
    assert sample.places["images/PET"].grid == pet.grid.crop(box)

    seen = {}
    for number, mask in enumerate(object_masks([LABELS])):
        blocks = np.argwhere(mask) // factor
        inside = ((blocks >= window.start) & (blocks < window.stop)).all(1)
        if inside.any():
            seen[number] = inside.mean(), Window.between(blocks.min(0) - start, blocks.max(0) + 1 - start), len(blocks)
    assert {a.object: (a.visible, a.box, a.voxels) for a in sample.annotations} == seen


def test_several_levels_are_one_job(catalog):
    sampler = VolumeSampler(catalog, (4, 4, 4), seed=3)
    targets = [sampler.coarser(sampler.target(k % 5), k % 3) for k in range(9)]
    assert {t.level for t in targets} == {0, 1, 2}
    for target, sample in zip(targets, sampler.load_samples(targets), strict=True):
        alone = sampler.load_sample(target)
        assert sample.target == target
        for name in ("CT", "PET"):
            np.testing.assert_array_equal(sample.images[name], alone.images[name], strict=True)
        np.testing.assert_array_equal(sample.labels["organs"], alone.labels["organs"], strict=True)
        assert sample.annotations == alone.annotations


@given(st.data())
def test_a_coarser_target_is_about_the_same_place(catalog, data):
    window = Window(data.draw(st.tuples(*[st.integers(-20, 20)] * 3)), data.draw(st.tuples(*[st.integers(1, 9)] * 3)))
    level = data.draw(st.integers(0, 2))
    sampler = VolumeSampler(catalog, (4, 4, 4))
    target = sampler.coarser(Target("a", window), level)
    assert (target.window.shape, target.level) == (window.shape, level)
    places = ((GRIDS[0], window), (GRIDS[level], target.window))
    centre = [grid.world(np.array(w.start) + (np.array(w.shape) - 1) / 2) for grid, w in places]
    # World order is x, y, z.
    assert (np.abs(centre[0] - centre[1]) <= np.array(GRIDS[level].spacing)[::-1] / 2 + 1e-9).all()
    low = np.array(target.window.start) * FACTORS[level]
    high = np.array(target.window.stop) * FACTORS[level]
    assert (low <= window.start).all()
    assert (high >= window.stop).all()


def test_what_was_drawn_stays_inside_a_coarser_target(catalog):
    strategy = Mix({Positive(categories="lesion"): 1, Negative(categories="liver"): 1})
    sampler = VolumeSampler(catalog, (3, 3, 3), strategy=strategy, length=40)
    roles = set()
    for k in range(40):
        drawn = sampler.target(k)
        target = sampler.coarser(drawn, 2)
        roles.add((drawn.role, target.role))
        assert (target.category, target.leaf) == (drawn.category, drawn.leaf)
        if drawn.point is not None:
            assert target.point == tuple(p // f for p, f in zip(drawn.point, FACTORS[2], strict=True))
            sample = sampler.load_sample(target)
            assert drawn.leaf in {a.category for a in sample.annotations}
        assert sampler.coarser(drawn, 0) == drawn
    assert roles == {("positive", "positive"), ("negative", "any")}


def test_levels_that_are_not_there_are_refused(catalog):
    sampler = VolumeSampler(catalog, (4, 4, 4))
    target = sampler.target(0)
    for ask in (sampler.load_sample, lambda t: sampler.load_samples([target, t])):
        with pytest.raises(WindowError, match="volume 'CT' has no level 3; expected 0 … 2"):
            ask(replace(target, level=3))
    with pytest.raises(WindowError, match="has no level 3"):
        sampler.coarser(target, 3)
    with pytest.raises(WindowError, match="only a target of level 0 has coarser ones; got level 1"):
        sampler.coarser(sampler.coarser(target, 1), 2)
