"""VolumeSampler against plain numpy on the arrays behind a catalogue in memory."""

from __future__ import annotations

import pickle
from math import ceil, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import VALUES, Toy, catalog_of, objects_of, random_labels, values_of

from ndvol.catalog import Catalog
from ndvol.categories import CategoryTree
from ndvol.errors import OptionError, SamplingError, UnknownNameError, WindowError
from ndvol.geometry import Window
from ndvol.opened import OPEN_CASES
from ndvol.sampler import Reading, VolumeSampler
from ndvol.sampling import Mix, Negative, Positive, Sliding, Target, Uniform

MIX = Mix({Positive("lesion", jitter=0.5): 1, Negative(max_overlap=0.2): 1, Uniform(): 1})


def toy_2d(seed: int = 0, *, labelled: bool = True, shape: tuple[int, ...] = (9, 11)) -> Toy:
    rng = np.random.default_rng(seed)
    image = rng.integers(-1000, 1000, shape).astype(np.int16)
    return Toy({"CT": image}, {"organs": random_labels(rng, shape, 0.2)} if labelled else {})


def pair():
    return catalog_of({"a": toy_2d(0), "b": toy_2d(1, shape=(5, 20))})


def crop(array, window, fill):
    """The patch by padding the whole array as far as the window reaches, and slicing it."""
    before = [max(0, -s) for s in window.start]
    after = [max(0, s - n) for s, n in zip(window.stop, array.shape, strict=True)]
    padded = np.pad(array, list(zip(before, after, strict=True)), constant_values=fill)
    return padded[tuple(slice(s + b, s + b + n) for s, b, n in zip(window.start, before, window.shape, strict=True))]


class TestSample:
    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_equals_the_padded_crop(self, data):
        n = data.draw(st.integers(1, 4))
        shape = data.draw(st.tuples(*[st.integers(1, {1: 20, 2: 9, 3: 6, 4: 4}[n])] * n))
        rng = np.random.default_rng(data.draw(st.integers(0, 999)))
        ct, pet = rng.integers(-500, 500, shape).astype(np.int16), rng.random(shape).astype(np.float32)
        organs, lesions = random_labels(rng, shape), random_labels(rng, shape, 0.1)
        toy = Toy({"CT": ct, "PET": pet}, {"organs": organs, "lesions": lesions})
        sampler = VolumeSampler(catalog_of({"a": toy}), (1,) * n, reading=Reading(-7))
        start = data.draw(st.tuples(*[st.integers(-9, 9)] * n))
        window = Window(start, data.draw(st.tuples(*[st.integers(1, 9)] * n)))
        target = Target("a", window)
        sample = sampler.load_sample(target)

        for name, array in toy.images.items():
            assert sample.images[name].dtype == array.dtype
            assert np.array_equal(sample.images[name], crop(array, window, -7))
        for name, array in toy.labels.items():
            assert np.array_equal(sample.labels[name], crop(array, window, 0))
        whole = sampler.catalog["a"].images["CT"].grid
        assert sample.grid == whole.crop(window)
        inside = np.zeros(window.shape, bool)
        inside[sample.valid.slices] = True
        assert np.array_equal(inside, crop(np.ones(shape, bool), window, False))
        assert sample.target is target

        expected = set()
        objects = objects_of(shape, toy.labels)
        for k in range(len(objects)):
            box = Window.between(objects.start[k], objects.stop[k])
            value, label = int(objects.value[k]), list(toy.labels)[objects.label[k]]
            if (crop(toy.labels[label], window, 0) == value).any():
                relative = box.shifted([-a for a in window.start])
                expected.add((VALUES[value], relative, label, value, int((toy.labels[label] == value).sum())))
        found = [(a.category, a.box, a.label, a.value, a.voxels) for a in sample.annotations]
        assert len(found) == len(expected)
        assert set(found) == expected

    def test_arrays_belong_to_the_caller(self):
        sampler = VolumeSampler(pair(), (3, 3))
        before = sampler[0].images["CT"].copy()
        sampler[0].images["CT"][:] = 0
        assert np.array_equal(sampler[0].images["CT"], before)

    def test_a_label_map_without_time_holds_at_every_time(self):
        rng = np.random.default_rng(0)
        image, labels = rng.random((4, 3, 6, 7)), random_labels(rng, (3, 6, 7), 0.05)
        catalog = catalog_of({"a": Toy({"cine": image}, {"organs": labels})})
        sampler = VolumeSampler(catalog, (1, 3, 3, 3), strategy=MIX, length=60)
        times = set()
        for sample in sampler:
            window = sample.target.window
            assert np.array_equal(sample.images["cine"], crop(image, window, 0))
            space = Window(window.start[1:], window.shape[1:])
            assert np.array_equal(sample.labels["organs"], crop(labels, space, 0))
            if sample.target.role == "positive":
                assert labels[sample.target.point[1:]] in values_of("lesion")
                times.add(sample.target.point[0])
            if sample.target.role == "negative":
                assert (sample.labels["organs"] > 0).sum() <= 0.2 * 27
        assert times == {0, 1, 2, 3}

    def test_colours_that_the_catalogue_does_not_list_are_read_whole(self):
        """A kwcoco picture has the axes y, x in the catalogue; that it has colours is seen when it is opened."""
        rgb = np.random.default_rng(0).integers(0, 255, (3, 8, 9)).astype(np.uint8)
        labels = random_labels(np.random.default_rng(1), (8, 9))
        catalog = catalog_of({"a": Toy({"image": rgb}, {"boxes": labels}, axes="cyx")})
        record = catalog.records["a"]
        flat = type(record)(
            "a", "", "yx", (8, 9), (1.0, 1.0), "unknown", (), ("boxes",), objects_of((8, 9), {"boxes": labels})
        )
        sampler = VolumeSampler(Catalog([flat], catalog.categories, catalog._open_case), (4, 4))
        sample = sampler.load_sample(Target("a", Window((-1, 6), (4, 4))))
        assert np.array_equal(sample.images["image"][1], crop(rgb[1], sample.target.window, 0))
        assert (sample.images["image"].shape, sample.grid.axes) == ((3, 4, 4), "yx")
        assert np.array_equal(sample.labels["boxes"], crop(labels, sample.target.window, 0))

    def test_another_image_than_the_first_may_lead(self):
        """PET on its own grid, with labels on it: the CT's objects are not on that grid and are left out."""
        rng = np.random.default_rng(0)
        pet, labels = rng.random((4, 5)), random_labels(rng, (4, 5))
        catalog = catalog_of({"a": Toy({"CT": rng.random((8, 10)), "PET": pet}, {"organs": labels})})
        sampler = VolumeSampler(catalog, (3, 3), reading=Reading(images="PET"))
        assert len(sampler) == 4
        sample = sampler[1]
        assert list(sample.images) == ["PET"]
        assert np.array_equal(sample.images["PET"], crop(pet, sample.target.window, 0))
        assert np.array_equal(sample.labels["organs"], crop(labels, sample.target.window, 0))
        ct = VolumeSampler(catalog, (3, 3), reading=Reading(images=["CT"], labels=()))
        assert [ct.load_sample(Target("a", Window((0, 0), (8, 10)))).annotations] == [()]


class TestStream:
    def test_depends_on_seed_epoch_and_index_alone(self):
        sampler = VolumeSampler(pair(), (3, 4), strategy=MIX, seed=7, length=40)
        targets = [sampler.target(i) for i in range(40)]
        assert [sampler.target(i) for i in reversed(range(40))] == targets[::-1]
        again = pickle.loads(pickle.dumps(sampler))
        assert [again[i].target for i in range(40)] == targets
        assert [VolumeSampler(pair(), (3, 4), strategy=MIX, seed=7, length=9).target(i) for i in range(9)] == targets[
            :9
        ]
        sampler.set_epoch(1)
        other = [sampler.target(i) for i in range(40)]
        assert sum(a == b for a, b in zip(targets, other, strict=True)) < 10
        sampler.set_epoch(0)
        assert [sampler.target(i) for i in range(40)] == targets
        seeded = VolumeSampler(pair(), (3, 4), strategy=MIX, seed=8, length=40)
        assert [seeded.target(i) for i in range(40)] not in (targets, other)

    def test_is_pinned(self):
        """A change here changes everybody's samples: it needs a new major version."""
        rng = np.random.default_rng((3, 2, 1))
        sampler = VolumeSampler(pair(), (3, 4), strategy=MIX, seed=3, length=6)
        sampler.set_epoch(2)
        assert sampler.target(1) == MIX.bind(sampler._cohort, (3, 4)).target(1, rng)
        found = [(t.case, t.window.start, t.role) for t in map(sampler.target, range(6))]
        assert found == PINNED

    def test_behaves_as_a_sequence(self):
        sampler = VolumeSampler(pair(), (3, 4), length=5)
        assert [s.target for s in sampler] == [sampler.target(i) for i in range(5)]
        assert sampler.target(-1) == sampler.target(4)
        for index in (5, -6):
            with pytest.raises(IndexError, match=f"sample {index} of 5"):
                sampler[index]
        with pytest.raises(TypeError):
            sampler["a"]

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3), st.integers(1, 10))
    def test_by_default_an_epoch_tiles_every_case(self, shapes, side):
        catalog = catalog_of({f"c{i}": toy_2d(i, shape=s) for i, s in enumerate(shapes)})
        tiles = sum(prod(ceil(n / side) for n in shape) for shape in shapes)
        assert len(VolumeSampler(catalog, (side, side))) == tiles
        sliding = VolumeSampler(catalog, (side, side), strategy=Sliding(), reading=Reading(labels=()))
        assert len(sliding) == tiles
        covered = {name: np.zeros(record.shape, int) for name, record in catalog.records.items()}
        for i in range(len(sliding)):
            target = sliding.target(i)
            covered[target.case][target.window.clip(covered[target.case].shape).inside] += 1
        assert all(count.min() >= 1 for count in covered.values())

    def test_positives_and_negatives_on_demand(self):
        sampler = VolumeSampler(pair(), (2, 2), strategy=MIX, length=3)
        for i in range(30):
            positive, negative = sampler.load_positive(i), sampler.load_negative(i)
            assert (positive.target.role, positive.target.category) == ("positive", "lesion")
            assert negative.target.role == "negative"
            # 0.2 of four voxels is less than one.
            assert not negative.labels["organs"].any()
        several = Mix({Mix({Positive("liver"): 1, Negative(): 5}): 1, Positive("kidney"): 1})
        drawn = {VolumeSampler(pair(), (2, 2), strategy=several).load_positive(i).target.category for i in range(20)}
        assert drawn == {"liver", "kidney"}
        assert VolumeSampler(pair(), (2, 2)).load_positive(0).target.category in set(VALUES.values())
        with pytest.raises(IndexError, match="no end to count from"):
            sampler.load_positive(-1)


PINNED = [
    ("b", (2, 1), "positive"),
    ("b", (0, 14), "any"),
    ("a", (5, 0), "any"),
    ("b", (1, 0), "positive"),
    ("a", (3, 0), "positive"),
    ("a", (6, 4), "positive"),
]


class TestCases:
    def test_a_case_without_labels_gives_none(self):
        catalog = catalog_of({"a": toy_2d(0), "b": toy_2d(1, labelled=False)})
        sampler = VolumeSampler(catalog, (3, 3), length=60)
        found = {s.target.case: list(s.labels) for s in sampler}
        assert sampler.labels == ("organs",)
        assert found == {"a": ["organs"], "b": []}
        mix = Mix({Positive(): 1, Negative(max_overlap=0.5): 1})
        assert {s.target.case for s in VolumeSampler(catalog, (3, 3), strategy=mix, length=40)} == {"a"}

    def test_labels_that_are_not_read_are_still_judged(self):
        sampler = VolumeSampler(pair(), (2, 2), strategy=Negative(), reading=Reading(labels=()), length=40)
        arrays = {name: toy.labels["organs"] for name, toy in sampler.catalog._open_case.cases.items()}
        for sample in sampler:
            assert sample.labels == {}
            assert not crop(arrays[sample.target.case], sample.target.window, 0).any()

    def test_cases_stay_open_but_not_too_many_and_not_in_a_pickle(self):
        catalog = catalog_of({f"c{i}": toy_2d(i, shape=(3, 3)) for i in range(OPEN_CASES + 1)})
        sampler = VolumeSampler(catalog, (3, 3), strategy=Sliding())
        opener = catalog._open_case
        assert opener.calls == 0
        for _ in range(3):
            sampler[0], sampler[1]
        assert opener.calls == 2
        for i in range(2, OPEN_CASES + 1):
            sampler[i]
        sampler[0]
        assert opener.calls == OPEN_CASES + 2
        again = pickle.loads(pickle.dumps(sampler))
        again[0]
        assert again.catalog._open_case.calls == OPEN_CASES + 3

    def test_volumes_on_other_grids_are_refused(self):
        image = np.zeros((4, 5))
        other = catalog_of({"a": Toy({"CT": image, "PET": np.zeros((8, 10))})})
        with pytest.raises(SamplingError, match=r"'PET' of case 'a' lies on another grid.*\(8, 10\).*\(4, 5\)"):
            VolumeSampler(other, (2, 2))[0]
        labels = catalog_of({"a": Toy({"CT": image}, {"organs": np.ones((4, 6), np.uint8)})})
        sampler = VolumeSampler(labels, (2, 2), reading=Reading(labels=()), strategy=Positive())
        with pytest.raises(SamplingError, match="'organs' of case 'a' lies on another grid"):
            sampler[0]
        timed = catalog_of({"a": Toy({"CT": np.zeros((2, 4, 5))}, {"organs": np.ones((3, 2, 4, 5), np.uint8)})})
        with pytest.raises(SamplingError, match="has an axis that the sampler's first image lacks"):
            VolumeSampler(timed, (2, 2, 2))[0]

    def test_boxes_without_labels_are_shown_and_judged(self):
        labels = np.zeros((9, 11), np.uint8)
        labels[1:4, 2:6], labels[5:7, 3:5] = 1, 4
        catalog = catalog_of({"a": Toy({"CT": np.zeros((9, 11))}, {"organs": labels})})
        objects = catalog.records["a"].objects
        objects.label[:] = -1
        whole = Target("a", Window((0, 0), (9, 11)))
        annotations = VolumeSampler(catalog, (3, 3)).load_sample(whole).annotations
        assert [a.label for a in annotations] == [""] * len(objects)
        for index in range(30):
            negative = VolumeSampler(catalog, (3, 3), strategy=Negative("cyst")).load_negative(index).target.window
            assert not negative.overlaps(Window((5, 3), (2, 2)))
            positive = VolumeSampler(catalog, (3, 3), strategy=Positive("cyst")).load_positive(index).target
            assert Window((5, 3), (2, 2)).overlaps(Window(positive.point, (1, 1)))


class TestOptions:
    def test_the_window_may_be_spatial_only(self):
        cases = {n: Toy({"cine": np.zeros((4, 3, y, 7))}) for n, y in (("a", 6), ("b", 8))}
        assert VolumeSampler(catalog_of(cases), (2, 3, 3)).window == (4, 2, 3, 3)
        assert VolumeSampler(catalog_of(cases), (1, 2, 3, 3)).window == (1, 2, 3, 3)
        cases["c"] = Toy({"cine": np.zeros((5, 3, 8, 7))})
        with pytest.raises(SamplingError, match="differ in length on axis 't'; got 4 in 'b', 5 in 'c'"):
            VolumeSampler(catalog_of(cases), (2, 3, 3))

    @pytest.mark.parametrize("window", [(3,), (3, 3, 3), (0, 3), (-1, 3), ()])
    def test_wrong_windows_are_refused(self, window):
        with pytest.raises(WindowError, match="one positive length per axis"):
            VolumeSampler(pair(), window)

    @pytest.mark.parametrize("window", [(2.5, 3), ("3", "3"), 3])
    def test_windows_that_are_no_integers_are_refused(self, window):
        with pytest.raises(WindowError, match="a window needs a sequence of integer lengths"):
            VolumeSampler(pair(), window)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"seed": -1}, "seed must be a whole number; got -1; expected 0 or more"),
            ({"seed": 0.5}, "seed must be a whole number"),
            ({"length": 0}, "length must be a whole number; got 0; expected 1 or more"),
            ({"length": 99, "strategy": Sliding()}, "fewer windows than the length asks for; got 99; expected 26"),
        ],
    )
    def test_wrong_options_are_refused(self, options, message):
        with pytest.raises(OptionError, match=message):
            VolumeSampler(pair(), (3, 3), **options)

    @pytest.mark.parametrize(
        ("images", "message"), [((), "at least one image"), (("CT", "CT"), "images names a volume twice")]
    )
    def test_wrong_choices_of_images_are_refused(self, images, message):
        with pytest.raises(OptionError, match=message):
            VolumeSampler(pair(), (3, 3), reading=Reading(images=images))

    def test_names_that_are_not_there_are_refused(self):
        catalog = catalog_of({"a": toy_2d(), "b": Toy({"MR": np.zeros((4, 4))})})
        with pytest.raises(UnknownNameError, match=r"case 'b' has no image 'CT'; got images MR; .*\(images=...\)"):
            VolumeSampler(catalog, (3, 3))
        with pytest.raises(UnknownNameError, match="no case has a label volume 'bones'; expected some of organs"):
            VolumeSampler(pair(), (3, 3), reading=Reading(labels=["bones"]))
        with pytest.raises(UnknownNameError, match="there is no case 'c'"):
            VolumeSampler(pair(), (3, 3)).load_sample(Target("c", Window((0, 0), (3, 3))))

    def test_cases_with_other_axes_are_refused(self):
        catalog = catalog_of({"a": toy_2d(), "b": Toy({"CT": np.zeros((3, 4, 4))})})
        with pytest.raises(SamplingError, match=r"the cases differ in axes.*'yx' in 'a', 'zyx' in 'b'"):
            VolumeSampler(catalog, (3, 3))

    def test_an_empty_catalogue_is_refused(self):
        with pytest.raises(SamplingError, match="there is no case in the catalogue"):
            VolumeSampler(Catalog([], CategoryTree((), (), ()), catalog_of), (3, 3))

    def test_what_cannot_be_read_is_refused(self):
        sampler = VolumeSampler(pair(), (3, 3), reading=Reading(-4000000))
        with pytest.raises(WindowError, match="fill_value does not fit the type int16"):
            sampler[0]
        with pytest.raises(WindowError, match="has no level 1; expected 0 … 0"):
            sampler.load_sample(Target("a", Window((0, 0), (3, 3)), level=1))
        with pytest.raises(OptionError, match="epoch must be a whole number"):
            sampler.set_epoch(-1)
