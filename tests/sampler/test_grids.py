"""Cases whose images lie on several grids: every patch holds its own voxels, in the place of the window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import TREE, VALUES, Toy, catalog_of, random_labels

from ndvol.catalog import Catalog
from ndvol.errors import SamplingError
from ndvol.geometry import Grid, Window
from ndvol.geometry.matching import matching_box
from ndvol.sampler import Reading, VolumeSampler
from ndvol.sampling import Positive, Target
from ndvol.volumes import ArrayLabelSource, ArraySource, Case, LabelVolume, Volume

RNG = np.random.default_rng(0)
CT, PET = RNG.integers(-500, 500, (10, 16, 18)).astype(np.int16), RNG.random((6, 7, 8)).astype(np.float32)
LABELS = random_labels(RNG, CT.shape, 0.1)
CT_GRID = Grid.regular("zyx", CT.shape, spacing=(2, 1, 1), origin=(-9, -8, -10))
TURN = np.eye(4)
TURN[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
PET_GRIDS = {
    "shifted": Grid.regular("zyx", PET.shape, spacing=(4, 2.5, 2), origin=(-7, -11, -8)),
    "turned": Grid("zyx", PET.shape, TURN @ Grid.regular("zyx", PET.shape, spacing=(3, 2, 2)).affine),
    "far away": Grid.regular("zyx", PET.shape, spacing=(4, 2.5, 2), origin=(500, 500, 500)),
}


def catalog(grid: Grid, pet: np.ndarray = PET, *, frame: str = "LPS") -> Catalog:
    """CT and labels on one grid, PET on `grid`."""
    known = catalog_of({"a": Toy({"CT": CT, "PET": CT}, {"organs": LABELS})})

    def open_case(record):
        ct = replace(CT_GRID, frame=frame)
        images = {"CT": Volume("CT", ct, ArraySource(CT)), "PET": Volume("PET", grid, ArraySource(pet))}
        organs = LabelVolume("organs", ct, ArrayLabelSource(LABELS), categories=VALUES)
        return Case("a", images, {"organs": organs})

    return Catalog(list(known.records.values()), TREE, open_case)


@pytest.mark.parametrize("name", PET_GRIDS)
@pytest.mark.parametrize("mode", ["constant", "edge"])
@settings(max_examples=25)
@given(st.tuples(*[st.integers(-6, 18)] * 3), st.tuples(*[st.integers(0, 9)] * 3))
def test_other_images_give_the_box_that_holds_the_window(name, mode, start, shape):
    grid, window = PET_GRIDS[name], Window(start, shape)
    sampler = VolumeSampler(catalog(grid), (4, 4, 4), reading=Reading(-5, mode))
    sample = sampler.load_sample(Target("a", window))
    assert (sample.images["CT"].shape, sample.grid) == (window.shape, CT_GRID.crop(window))
    box = matching_box(CT_GRID, window, grid)
    expected = sampler.catalog["a"].images["PET"].read(box, fill_value=-5, pad_mode=mode)
    np.testing.assert_array_equal(sample.images["PET"], expected, strict=True)
    assert list(sample.places) == ["images/PET"]
    place = sample.places["images/PET"]
    assert place.grid == grid.crop(box)
    inside = np.zeros(box.shape, bool)
    inside[place.valid.slices] = True
    clip = box.clip(PET.shape)
    assert inside.sum() == np.prod(clip.shape)
    if name == "far away" and mode == "constant":
        assert (sample.images["PET"] == -5).all()


def test_every_voxel_of_the_window_is_covered():
    """The world point of each voxel's centre lies in a voxel of the other patch, and finds its own value there."""
    sampler = VolumeSampler(catalog(PET_GRIDS["turned"]), (4, 4, 4), length=10)
    for sample in sampler:
        place, patch = sample.places["images/PET"], sample.images["PET"]
        points = sample.grid.world(np.argwhere(np.ones(sample.grid.shape)))
        index = np.rint(place.grid.index(points)).astype(int)
        assert (index >= 0).all()
        assert (index < patch.shape).all()
        of_volume = np.rint(PET_GRIDS["turned"].index(points)).astype(int)
        real = ((of_volume >= 0) & (of_volume < PET.shape)).all(1)
        np.testing.assert_array_equal(patch[tuple(index[real].T)], PET[tuple(of_volume[real].T)])


def test_the_reference_image_may_be_the_other_one():
    grid = PET_GRIDS["shifted"]
    sampler = VolumeSampler(catalog(grid), (2, 2, 2), reading=Reading(images=("PET", "CT")))
    sample = sampler.load_sample(Target("a", Window((1, 1, 1), (2, 2, 2))))
    box = matching_box(grid, Window((1, 1, 1), (2, 2, 2)), CT_GRID)
    assert list(sample.places) == ["images/CT", "labels/organs"]
    case = sampler.catalog["a"]
    np.testing.assert_array_equal(sample.images["CT"], case.images["CT"].read(box))
    np.testing.assert_array_equal(sample.labels["organs"], case.labels["organs"].read(box))
    # Its objects are in the other grid's indices: they are not shown, and nothing is drawn by them.
    assert sample.annotations == ()
    for strategy in (Positive(), Positive(by="object"), Positive(by="object", window_dims="extent")):
        drawn = VolumeSampler(catalog(grid), (2, 2, 2), reading=Reading(images=("PET", "CT")), strategy=strategy)
        with pytest.raises(SamplingError, match="'organs' of case 'a' lies on another grid") as caught:
            drawn.target(0)
        assert caught.value.code == "other-grid"


def test_times_must_agree():
    grid = Grid("tzyx", (3, *PET.shape), PET_GRIDS["shifted"].affine)
    moving = RNG.random((3, *PET.shape)).astype(np.float32)
    # A case that lasts longer than the reference image gives all its times.
    sample = VolumeSampler(catalog(grid, moving), (4, 4, 4)).load_sample(Target("a", Window((2, 2, 2), (4, 4, 4))))
    box = matching_box(CT_GRID, Window((2, 2, 2), (4, 4, 4)), PET_GRIDS["shifted"])
    np.testing.assert_array_equal(sample.images["PET"], np.stack([m[box.slices] for m in moving]))
    assert sample.places["images/PET"].grid.axes == "tzyx"
    known = catalog(grid, moving)

    def open_case(record):
        cine = Volume("CT", Grid("tzyx", (2, *CT.shape), CT_GRID.affine), ArraySource(np.stack([CT, CT])))
        return Case("a", {**known["a"].images, "CT": cine}, {})

    record = replace(known.records["a"], axes="tzyx", shape=(2, *CT.shape))
    sampler = VolumeSampler(Catalog([record], TREE, open_case), (4, 4, 4), reading=Reading(labels=()))
    with pytest.raises(SamplingError, match="'PET' of case 'a' lies on another grid"):
        sampler[0]


def test_where_the_world_is_not_the_patients_grids_are_not_matched():
    local = replace(PET_GRIDS["shifted"], frame="LOCAL")
    for known in (catalog(local), catalog(local, frame="LOCAL")):
        with pytest.raises(SamplingError, match=r"'PET' of case 'a' lies on another grid.*patient coordinates only"):
            VolumeSampler(known, (4, 4, 4))[0]
