"""GridSampler against plain indexing of the padded volume, and the way there and back through a Stitcher."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from blending_oracle import OVERLAPS
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Toy, catalog_of, random_labels

import ndvol
from ndvol.errors import OptionError, SamplingError, UnknownNameError, WindowError
from ndvol.geometry import Grid, Reorientation, SlidingWindows, Window
from ndvol.grid_sampler import GridSampler
from ndvol.sampling import Reading, Sliding
from ndvol.store import CaseWriter
from ndvol.volumes import ArraySource, Case, Volume

AXES = {1: "x", 2: "yx", 3: "zyx", 4: "tzyx"}


def volume_of(array: np.ndarray, axes: str = "") -> Volume:
    return Volume("CT", Grid.regular(axes or AXES[array.ndim], array.shape), ArraySource(array))


def pair():
    rng = np.random.default_rng(0)
    arrays = {"a": rng.integers(-900, 900, (9, 11)).astype(np.int16), "b": rng.integers(0, 9, (3, 20)).astype(np.int16)}
    toys = {name: Toy({"CT": a, "PET": a / 7}, {"organs": random_labels(rng, a.shape)}) for name, a in arrays.items()}
    return catalog_of(toys), arrays


@settings(max_examples=60)
@given(data=st.data())
def test_every_sample_is_the_padded_crop_and_every_voxel_is_covered(data):
    n = data.draw(st.integers(1, 4))
    side = {1: 20, 2: 9, 3: 6, 4: 4}[n]
    shape = data.draw(st.tuples(*[st.integers(1, side)] * n))
    size = data.draw(st.tuples(*[st.integers(1, side + 2)] * n))
    overlap = data.draw(OVERLAPS | st.tuples(*[OVERLAPS] * n))
    halo = data.draw(st.integers(0, 3) | st.tuples(*[st.integers(0, 3)] * n))
    array = np.random.default_rng(0).integers(-500, 500, shape).astype(np.int16)
    sampler = GridSampler(volume_of(array), size, overlap=overlap, halo=halo, fill_value=-7)
    windows = SlidingWindows(shape, size, overlap)
    assert len(sampler) == len(windows)
    sides = [halo * (a in "zyx") for a in AXES[n]] if isinstance(halo, int) else halo
    assert sampler.halo == tuple(sides)
    # As far as any window reaches: behind its own start by the halo, and beyond the border by its length.
    around = [(h, w + h) for w, h in zip(size, sides, strict=True)]
    padded, real = np.pad(array, around, constant_values=-7), np.pad(np.ones(shape, bool), around)
    covered = np.zeros(shape, int)
    for number in range(0, len(sampler), max(1, len(sampler) // 40)):
        sample, window = sampler[number], windows[number]
        read = tuple(slice(s, s + w + 2 * h) for s, w, h in zip(window.start, size, sides, strict=True))
        assert (sample.index, sample.case, sample.window) == (number, "CT", window)
        assert np.array_equal(sample.images["CT"], padded[read])
        assert sample.images["CT"].dtype == np.int16
        inside = np.zeros(sample.images["CT"].shape, bool)
        inside[sample.valid.slices] = True
        assert np.array_equal(inside, real[read])
        assert sample.grid == volume_of(array).grid.crop(window.padded(sides))
    for number in range(len(sampler)):
        assert sampler.window_at(number) == windows[number]
        covered[windows[number].clip(shape).inside] += 1
    assert covered.min() >= 1


@settings(max_examples=40)
@given(data=st.data())
def test_there_and_back(data):
    """Identity through a halo, with channels of the image and without."""
    axes = data.draw(st.sampled_from(["x", "yx", "cyx", "zyx", "tyx", "tcyx"]))
    shape = data.draw(st.tuples(*[st.integers(1, 8)] * len(axes)))
    size = data.draw(st.tuples(*[st.integers(1, 9) for a in axes if a in "zyx"]))
    array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    sampler = GridSampler(volume_of(array, axes), size, overlap=data.draw(OVERLAPS), halo=data.draw(st.integers(0, 2)))
    out = np.full(shape, np.nan, np.float32)
    with sampler.stitcher("CT", out, mode=data.draw(st.sampled_from(["mean", "gaussian", "hann"]))) as stitcher:
        for sample in sampler:
            stitcher.add(sample.window, sample.images["CT"])
    assert np.array_equal(out, array)


def test_case_by_case():
    catalog, arrays = pair()
    sampler = GridSampler(catalog, (4, 5), overlap=0.5, halo=(1, 0), images="CT")
    reference = ndvol.VolumeSampler(catalog, (4, 5), strategy=Sliding(0.5), reading=Reading(images="CT", labels=()))
    assert len(sampler) == len(reference)
    for number in range(len(sampler)):
        target = reference.target(number)
        assert (sampler[number].case, sampler.window_at(number)) == (target.case, target.window)
    assert sampler.cases == ("a", "b")
    assert [*sampler.indices("a"), *sampler.indices("b")] == list(range(len(sampler)))
    for case, array in arrays.items():
        assert [sampler.window_at(i) for i in sampler.indices(case)] == list(SlidingWindows(array.shape, (4, 5), 0.5))
        out = np.zeros(array.shape)
        with sampler.stitcher(case, out) as stitcher:
            for number in sampler.indices(case):
                stitcher.add(sampler.window_at(number), sampler[number].images["CT"])
        assert np.array_equal(out, array)


def test_behaves_as_a_sequence():
    sampler = GridSampler(pair()[0], (4, 4))
    assert [s.index for s in sampler] == list(range(len(sampler)))
    assert (sampler[-1].index, sampler[-1].case) == (len(sampler) - 1, "b")
    assert sampler.window_at(-len(sampler)) == Window((0, 0), (4, 4))
    for number in (len(sampler), -len(sampler) - 1):
        with pytest.raises(IndexError, match=f"sample {number} of {len(sampler)}"):
            sampler[number]
    with pytest.raises(TypeError):
        sampler["a"]


def test_pickles():
    sampler = GridSampler(pair()[0], (4, 4), overlap=0.25, halo=1, fill_value=-3)
    again = pickle.loads(pickle.dumps(sampler))
    for a, b in zip(sampler, again, strict=True):
        assert (a.case, a.window, a.valid, a.grid) == (b.case, b.window, b.valid, b.grid)
        assert all(np.array_equal(a.images[n], b.images[n]) for n in ("CT", "PET"))
    volume = pickle.loads(pickle.dumps(GridSampler(volume_of(np.arange(20).reshape(4, 5)), (2, 2))))
    assert volume[1].images["CT"].tolist() == [[2, 3], [7, 8]]


def test_a_window_deeper_than_the_volume_is_one_at_0():
    sampler = GridSampler(volume_of(np.arange(6).reshape(2, 3)), (5, 4), overlap=0.5, halo=1)
    assert len(sampler) == 1
    assert sampler[0].window == Window((0, 0), (5, 4))
    assert sampler[0].valid == Window((1, 1), (2, 3))
    assert sampler[0].images["CT"][1:3, 1:4].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_time_is_whole_unless_the_window_says_otherwise():
    array = np.random.default_rng(0).random((3, 4, 6))
    whole = GridSampler(volume_of(array, "tyx"), (2, 2), overlap=(0.5, 0), halo=1)
    assert (whole.window, whole.overlap, whole.halo) == ((3, 2, 2), (0.0, 0.5, 0), (0, 1, 1))
    assert (len(whole), whole[0].images["CT"].shape) == (9, (3, 4, 4))
    single = GridSampler(volume_of(array, "tyx"), (1, 4, 6), halo=(1, 0, 0))
    assert [s.window.start[0] for s in single] == [0, 1, 2]
    assert np.array_equal(single[1].images["CT"], array)


def test_a_case_of_a_file_and_its_prediction(tmp_path):
    """From one stored case to a label file that opens beside it, on the same oblique grid, with the same way back."""
    rng = np.random.default_rng(0)
    grid = Grid("zyx", (12, 20, 17), [[0.1, 0, 0.7, -20], [0, 0.7, 0.1, 5.5], [2.5, 0, 0, 100], [0, 0, 0, 1]])
    array = rng.integers(-1000, 1000, grid.shape).astype(np.int16)
    with CaseWriter(tmp_path / "a.h5", case="patient", uuid="0") as writer:
        writer.add_image("CT", array, grid, reorientation=Reorientation((2, 0, 1), (False, True, True)))
    case = ndvol.open_case(tmp_path / "a.h5")
    sampler = GridSampler(case, (5, 8, 8), overlap=0.5, halo=(0, 2, 2), fill_value=-1024)
    with sampler.stitcher("patient", tmp_path / "patient.h5", mode="hann", categories={1: "dense"}) as stitcher:
        for sample in sampler:
            ct = sample.images["CT"]
            stitcher.add(sample.window, np.stack([ct <= 300, ct > 300]))
    found = ndvol.open_case(tmp_path / "patient.h5")
    labels = found.labels["prediction"]
    assert (found.name, labels.grid) == ("patient", grid)
    assert np.array_equal(np.asarray(labels), array > 300)
    assert labels.attributes["reorientation"] == case.images["CT"].attributes["reorientation"]
    assert labels.index.count(1) == (array > 300).sum()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": (4,)}, WindowError, "a window needs one positive length per axis"),
        ({"window": (4, 0)}, WindowError, "a window needs one positive length per axis"),
        ({"overlap": 1.0}, WindowError, "an overlap in \\[0, 1\\)"),
        ({"overlap": (0.1, 0.2, 0.3)}, WindowError, r"an overlap needs one value per axis; got \(0.1, 0.2, 0.3\)"),
        ({"halo": (1, 2, 3)}, WindowError, "a halo needs one value per axis"),
        ({"halo": -1}, OptionError, "a halo must be a whole number; got -1"),
        ({"halo": 0.5}, OptionError, "a halo must be a whole number; got 0.5"),
        ({"images": ["MR"]}, UnknownNameError, "has no image 'MR'"),
        ({"images": ()}, OptionError, "at least one image"),
    ],
)
def test_refused(options, error, message):
    with pytest.raises(error, match=message):
        GridSampler(pair()[0], **{"window": (4, 4), **options})


def test_unknown_cases_and_cases_without_images():
    sampler = GridSampler(pair()[0], (4, 4))
    for ask in (sampler.windows, sampler.indices, lambda case: sampler.stitcher(case, np.zeros(1))):
        with pytest.raises(UnknownNameError, match="there is no case 'c'; expected one of a, b"):
            ask("c")
    with pytest.raises(SamplingError, match="case 'empty' has no image"):
        GridSampler(Case("empty", {}, {}), (4, 4))


def test_a_batch_is_its_samples(tmp_path):
    array = np.random.default_rng(0).integers(0, 99, (9, 11)).astype(np.int16)
    volume = Volume("CT", Grid.regular("yx", array.shape, spacing=(1, 1)), ArraySource(array))
    grid = GridSampler(volume, (4, 5), overlap=0.5, halo=1)
    numbers = [3, 0, -1, 3]
    for sample, number in zip(grid.__getitems__(numbers), numbers, strict=True):
        alone = grid[number]
        assert (sample.index, sample.case, sample.window) == (alone.index, alone.case, alone.window)
        np.testing.assert_array_equal(sample.images["CT"], alone.images["CT"])
    with pytest.raises(IndexError):
        grid.__getitems__([0, len(grid)])
