"""The laws of windows and of what they see, against plain numpy on every window of small volumes, in 1 to 4 axes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import TREE, VALUES, Toy, catalog_of, object_masks, objects_of, random_labels

from ndvol.catalog import Catalog
from ndvol.errors import OptionError, WindowError
from ndvol.geometry import Window
from ndvol.sampler import Reading, VolumeSampler
from ndvol.sampling import Positive, Target, window_about


def padded_crop(array, window, mode, fill):
    """The patch by `np.pad` of the whole array as far as the window reaches, and slicing it."""
    before = [max(0, -s) for s in window.start]
    after = [max(0, s - n) for s, n in zip(window.stop, array.shape, strict=True)]
    options = {"constant_values": fill} if mode == "constant" else {}
    padded = np.pad(array, list(zip(before, after, strict=True)), mode=mode, **options)
    return padded[tuple(slice(s + b, s + b + n) for s, b, n in zip(window.start, before, window.shape, strict=True))]


@st.composite
def toys(draw, share=0.4):
    """Two label volumes over an image of 1 to 4 axes, and a window of any place and size, also empty."""
    n = draw(st.integers(1, 4))
    shape = draw(st.tuples(*[st.integers(1, {1: 20, 2: 8, 3: 5, 4: 4}[n])] * n))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    image = rng.integers(-500, 500, shape).astype(np.int16)
    labels = {"organs": random_labels(rng, shape, share), "lesions": random_labels(rng, shape, 0.1)}
    policy = draw(st.sampled_from(["component", "category"]))
    start = draw(st.tuples(*[st.integers(-7, 7)] * n))
    return Toy({"CT": image}, labels, policy=policy), Window(start, draw(st.tuples(*[st.integers(0, 7)] * n)))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@settings(max_examples=40)
@given(toys())
def test_a_patch_has_its_shape_its_origin_and_says_what_is_real(mode, drawn):
    toy, window = drawn
    sampler = VolumeSampler(catalog_of({"a": toy}), (1,) * window.ndim, reading=Reading(-7, mode))
    sample = sampler.load_sample(Target("a", window))
    image = toy.images["CT"]
    np.testing.assert_array_equal(sample.images["CT"], padded_crop(image, window, mode, -7), strict=True)
    for name, array in toy.labels.items():
        np.testing.assert_array_equal(sample.labels[name], padded_crop(array, window, mode, 0), strict=True)
    real = np.zeros(window.shape, bool)
    real[sample.valid.slices] = True
    np.testing.assert_array_equal(real, padded_crop(np.ones(image.shape, bool), window, "constant", False))
    # The true origin, also of a window that holds nothing real: where its voxel 0 is or would be.
    grid = sampler.catalog["a"].images["CT"].grid
    spatial = [window.start[i] for i in grid.spatial]
    np.testing.assert_allclose(sample.grid.origin, grid.world(spatial))
    assert sample.grid.shape == window.shape


@settings(max_examples=100)
@given(toys(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_an_object_is_visible_by_the_share_of_its_voxels(drawn, thresh):
    toy, window = drawn
    sampler = VolumeSampler(catalog_of({"a": toy}), (1,) * window.ndim, reading=Reading(visible_thresh=thresh))
    sample = sampler.load_sample(Target("a", window))
    objects = objects_of(toy.images["CT"].shape, toy.labels, toy.policy)
    masks = object_masks(list(toy.labels.values()), toy.policy)
    assert len(masks) == len(objects)
    expected = {}
    for k, mask in enumerate(masks):
        share = mask[window.clip(mask.shape).inside].sum() / mask.sum()
        if share > 0 and share >= thresh:
            box = Window.between(objects.start[k], objects.stop[k]).shifted([-a for a in window.start])
            name = list(toy.labels)[objects.label[k]]
            expected[k] = (VALUES[int(objects.value[k])], box, name, int(objects.value[k]), int(mask.sum()), share)
    found = {a.object: (a.category, a.box, a.label, a.value, a.voxels, a.visible) for a in sample.annotations}
    assert len(found) == len(sample.annotations)
    assert found == expected


def test_components_whose_boxes_hold_each_other_are_told_apart():
    """A ring around a dot, and a comb in a comb: every window sees the right object."""
    ring = np.zeros((9, 9), np.uint8)
    ring[0:7, 0:7] = 1
    ring[1:6, 1:6] = 0
    ring[3, 3] = 1
    combs = np.zeros((9, 9), np.uint8)
    combs[0, :7], combs[:6, 0:7:4] = 1, 1
    combs[8, :7], combs[2:9, 2:7:4] = 1, 1
    for labels in (ring, combs):
        toy = Toy({"CT": np.zeros(labels.shape)}, {"l": labels}, policy="component")
        masks = object_masks([labels], "component")
        sampler = VolumeSampler(catalog_of({"a": toy}), (1,) * labels.ndim)
        for start in product(*(range(-1, n) for n in labels.shape)):
            window = Window(start, (3,) * labels.ndim)
            found = {a.object: a.visible for a in sampler.load_sample(Target("a", window)).annotations}
            inside = window.clip(labels.shape).inside
            shares = {k: mask[inside].sum() / mask.sum() for k, mask in enumerate(masks)}
            assert found == {k: share for k, share in shares.items() if share}


def test_twins_of_one_box_and_size_are_told_apart_by_their_order():
    labels = np.zeros((7, 7, 7), np.uint8)
    labels[0, 0, :] = labels[0, :, 6] = labels[:, 6, 6] = 1
    labels[6, 0, :] = labels[6, :, 0] = labels[:, 6, 0] = 1
    objects = objects_of(labels.shape, {"l": labels}, "component")
    assert [objects.start.tolist(), objects.stop.tolist()] == [[[0] * 3] * 2, [[7] * 3] * 2]
    assert objects.voxels.tolist() == [19, 19]
    masks = object_masks([labels], "component")
    toy = Toy({"CT": np.zeros(labels.shape)}, {"l": labels}, policy="component")
    sampler = VolumeSampler(catalog_of({"a": toy}), (1, 1, 1))
    for start in product(range(7), repeat=3):
        window = Window(start, (2, 2, 2))
        found = {a.object: a.visible for a in sampler.load_sample(Target("a", window)).annotations}
        inside = window.clip(labels.shape).inside
        assert found == {k: m[inside].sum() / 19 for k, m in enumerate(masks) if m[inside].any()}


@settings(max_examples=60)
@given(toys(), st.booleans())
def test_touching_restores_the_other_rule(drawn, touching):
    toy, window = drawn
    sampler = VolumeSampler(catalog_of({"a": toy}), (1,) * window.ndim, reading=Reading(touching=touching))
    found = {a.object for a in sampler.load_sample(Target("a", window)).annotations}
    objects = objects_of(toy.images["CT"].shape, toy.labels, toy.policy)
    meeting, sharing = set(), set()
    for k, mask in enumerate(object_masks(list(toy.labels.values()), toy.policy)):
        # Closed boxes that meet, by their corners in continuous coordinates.
        meets = all(
            max(a, c) <= min(b, d)
            for a, b, c, d in zip(objects.start[k], objects.stop[k], window.start, window.stop, strict=True)
        )
        if meets and window.size:
            meeting.add(k)
        if mask[window.clip(mask.shape).inside].any():
            sharing.add(k)
    assert found == (meeting if touching else sharing)
    assert sharing <= meeting


def test_boxes_without_a_mask_are_visible_by_their_box():
    toy = Toy({"CT": np.zeros((9, 9))}, {"l": random_labels(np.random.default_rng(0), (9, 9), 0.2)})
    catalog = catalog_of({"a": toy})
    objects = catalog.records["a"].objects
    objects.label[:] = -1
    sampler = VolumeSampler(catalog, (3, 3))
    for start in product(range(-3, 10), repeat=2):
        window = Window(start, (3, 3))
        expected = {}
        for k in range(len(objects)):
            box = Window.between(objects.start[k], objects.stop[k])
            if box.overlaps(window):
                expected[k] = box.intersection(window).size / box.size
        found = sampler.load_sample(Target("a", window)).annotations
        assert {a.object: a.visible for a in found} == expected
        assert {(a.label, a.value) for a in found} <= {("", 0)}


@pytest.mark.parametrize("pad", [0, 2, (1, 0, 3)])
def test_pad_adds_context_after_the_window_was_placed(pad):
    rng = np.random.default_rng(0)
    toy = Toy({"CT": rng.random((6, 7, 8))}, {"organs": random_labels(rng, (6, 7, 8), 0.1)})
    plain = VolumeSampler(catalog_of({"a": toy}), (3, 2, 4), strategy=Positive(), length=20)
    padded = VolumeSampler(catalog_of({"a": toy}), (3, 2, 4), strategy=Positive(), length=20, reading=Reading(pad=pad))
    margin = (pad,) * 3 if isinstance(pad, int) else pad
    assert padded.pad == margin
    for i in range(20):
        before, after = plain.target(i), padded.target(i)
        assert after.window == before.window.padded(margin)
        assert after.point == before.point
        expected = padded_crop(toy.images["CT"], after.window, "constant", 0)
        assert np.array_equal(padded[i].images["CT"], expected)
        assert padded.load_positive(i).images["CT"].shape == after.window.shape


def test_pad_belongs_to_the_axes_that_the_window_names():
    toy = Toy({"cine": np.zeros((2, 3, 6, 7))})
    assert VolumeSampler(catalog_of({"a": toy}), (3, 3, 3), reading=Reading(pad=1)).pad == (0, 1, 1, 1)
    assert VolumeSampler(catalog_of({"a": toy}), (1, 3, 3, 3), reading=Reading(pad=1)).pad == (1, 1, 1, 1)
    with pytest.raises(WindowError, match="pad needs one value per axis"):
        VolumeSampler(catalog_of({"a": toy}), (3, 3, 3), reading=Reading(pad=(1, 1)))


@given(st.data())
def test_windows_about_a_box(data):
    n = data.draw(st.integers(1, 4))
    start = data.draw(st.tuples(*[st.integers(-5, 5)] * n))
    shape = data.draw(st.tuples(*[st.integers(0, 9)] * n))
    lengths = data.draw(st.tuples(*[st.integers(0, 9)] * n))
    pad = data.draw(st.integers(0, 3))
    box = Window(start, shape)
    for dims, extent in (("extent", shape), ("square", (max(shape),) * n), (lengths, lengths)):
        window = window_about(box, dims, pad)
        for a, length, d, found, size in zip(start, shape, extent, window.start, window.shape, strict=True):
            # In halves, to stay with integers: 2 c = 2 a + length.
            assert found + pad == (2 * a + length - d) // 2
            assert size == d + 2 * pad


def test_the_target_about_an_object():
    labels = np.zeros((9, 12), np.uint8)
    labels[2:4, 3:8] = 4
    catalog = catalog_of({"a": Toy({"CT": np.zeros((9, 12))}, {"organs": labels})})
    sampler = VolumeSampler(catalog, (4, 4), reading=Reading(pad=1))
    target = sampler.object_target("a", 0)
    assert target == Target("a", Window((0, 2), (6, 6)), "positive", "cyst", leaf="cyst", object=0)
    assert sampler.object_target("a", 0, "extent").window == Window((1, 2), (4, 7))
    assert sampler.object_target("a", 0, "square").window == Window((-1, 2), (7, 7))
    assert sampler.object_target("a", 0, (1, 1)).window == Window((1, 4), (3, 3))
    for number in (1, -1):
        with pytest.raises(IndexError, match=f"object {number} of the 1 in case 'a'"):
            sampler.object_target("a", number)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pad_mode": "wrap"}, OptionError, "no such pad_mode"),
        ({"pad": -1}, OptionError, "pad cannot be negative"),
        ({"pad": (1, -1)}, OptionError, "pad cannot be negative"),
        ({"pad": 1.5}, OptionError, "pad must be a whole number"),
        ({"visible_thresh": 1.1}, WindowError, "visible_thresh is out of range"),
    ],
)
def test_impossible_readings_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        Reading(**options)


def test_a_catalogue_that_lists_other_objects_than_the_file_holds_is_noticed():
    labels = np.zeros((6, 6), np.uint8)
    labels[0:5, 0:5] = 1
    labels[1:4, 1:4] = 0
    labels[2, 2] = 1
    toy = Toy({"CT": np.zeros((6, 6))}, {"l": labels}, policy="component")
    catalog = catalog_of({"a": toy})
    catalog.records["a"].objects.voxels[1] = 2
    sampler = VolumeSampler(Catalog(list(catalog.records.values()), TREE, catalog._open_case), (2, 2))
    with pytest.raises(LookupError, match="does not hold the object that the catalogue lists"):
        sampler.load_sample(Target("a", Window((2, 2), (2, 2))))
