"""Regions: positives, negatives and grids against every position and every voxel."""

from __future__ import annotations

from collections import Counter
from math import floor

import kwcoco
import kwimage
import numpy as np
import pytest
from PIL import Image
from toysets import make_pictures, make_video

from ndvol.coco import CocoSampler, MissingNegativePool
from ndvol.coco.regions import rng_of
from ndvol.errors import OptionError, SamplingError, UnknownNameError
from ndvol.geometry import Window


def annotated(sampler, gid, shape):
    """The annotated voxels of a picture: masks, and boxes of objects without one."""
    found = np.zeros(shape, bool)
    for annotation in sampler.load_annotations(gid):
        if annotation.get("category_id") == 3:
            continue
        if mask := sampler._annotations.masks.get(annotation["id"]):
            found[mask[0].slices] |= mask[1]
        else:
            x, y, w, h = annotation.get("bbox") or (0, 0, shape[1], shape[0])
            found[max(0, floor(y)) : max(0, int(np.ceil(y + h))), max(0, floor(x)) : max(0, int(np.ceil(x + w)))] = True
    return found


def test_positives_are_all_annotations_with_a_category(pictures):
    pictures.add_annotation(2, category_id=1)
    pictures.add_annotation(3, bbox=[1, 1, 2, 2])
    sampler = CocoSampler(pictures)
    assert (sampler.n_annots, sampler.n_positives, len(sampler), sampler.n_samples) == (17, 16, 16, 16)
    whole = sampler.load_positive(15)
    assert whole["im"].shape == (25, 36, 3), "an annotation without a box covers its picture"
    assert whole["annots"]["rel_boxes"].to_xywh().data[whole["target"]["annot_idx"]].tolist() == [0, 0, 36, 25]
    everything = sampler.load_sample({"gid": 3})
    assert -1 in everything["annots"]["cids"], "one without a category is seen, but no positive"
    table = sampler.regions.targets
    assert len(table) == 16
    row = sampler.regions.get_positive(4)
    assert row == {k: table.iloc[4][k] for k in row}
    assert {type(v) for v in row.values()} <= {int, float}
    drawn = Counter(sampler.load_positive(rng=seed)["target"]["aid"] for seed in range(200))
    assert len(drawn) == 16
    with pytest.raises(IndexError):
        sampler.load_positive(16)


def test_extents_of_fractional_boxes_never_grow_by_rounding(tmp_path):
    dset = make_pictures(tmp_path, [(200, 300)])
    rng = np.random.default_rng(0)
    for _ in range(100):
        dset.add_annotation(1, category_id=1, bbox=[float(rng.uniform(0, 200)), float(rng.uniform(0, 100)), 64, 64])
    sampler = CocoSampler(dset)
    for index in range(5, 105):
        assert sampler.load_positive(index, with_annots=False)["im"].shape[:2] == (64, 64)


def test_preselect_chooses_as_many_as_asked(pictures):
    sampler = CocoSampler(pictures)
    assert sampler.preselect(n_pos=4, n_neg=6, window_dims=(5, 5), rng=0) == (4, 6)
    assert (len(sampler), sampler.n_positives, sampler.regions.n_negatives) == (10, 4, 6)
    items = [sampler.load_item(i) for i in range(10)]
    assert [i["target"]["aid"] == -1 for i in items] == [False] * 4 + [True] * 6
    assert len({i["target"]["aid"] for i in items[:4]}) == 4
    again = CocoSampler(pictures)
    again.preselect(n_pos=4, n_neg=6, window_dims=(5, 5), rng=0)
    for one, other in zip(items, (again.load_item(i) for i in range(10)), strict=True):
        assert one["target"]["slices"] == other["target"]["slices"]
    assert [sampler.load_negative()["target"]["slices"] for _ in range(7)] == [
        items[4 + i % 6]["target"]["slices"] for i in range(7)
    ]
    assert sampler.preselect(neg_to_pos_ratio=0.5, rng=1) == (15, 7)
    assert sampler.preselect() == (15, 0)
    with pytest.raises(OptionError, match="n_neg or neg_to_pos_ratio"):
        sampler.preselect(n_neg=1, neg_to_pos_ratio=1)
    with pytest.raises(IndexError):
        sampler.load_item(15)
    with pytest.raises(MissingNegativePool, match="call preselect"):
        CocoSampler(pictures).load_negative(0)


@pytest.mark.parametrize("max_overlap", [0.0, 0.25])
def test_negatives_are_all_admissible_positions_with_equal_chance(pictures, max_overlap):
    sampler, window = CocoSampler(pictures), (6, 9)
    expected = set()
    for gid in (1, 2, 3):
        shape = sampler.load_image(gid).shape[:2]
        marked = annotated(sampler, gid, shape)
        for y, x in np.ndindex(shape[0] - window[0] + 1, shape[1] - window[1] + 1):
            if marked[y : y + window[0], x : x + window[1]].sum() <= max_overlap * 54:
                expected.add((gid, y, x))
    n = 6000
    sampler.preselect(n_neg=n, window_dims=window, rng=5, max_overlap=max_overlap)
    found = Counter()
    for index in range(n):
        row = sampler.regions.get_negative(index)
        found[row["gid"], int(row["cy"] - 3), int(row["cx"] - 4.5)] += 1
    assert set(found) <= expected
    assert len({gid for gid, _, _ in found}) == 3
    mean = n / len(expected)
    chi = sum((found[p] - mean) ** 2 / mean for p in expected)
    assert abs(chi - len(expected)) < 6 * np.sqrt(2 * len(expected)), "uniform over the positions"
    sample = sampler.load_negative(0)
    assert sample["im"].shape[:2] == window
    if not max_overlap:
        assert not len(sample["annots"]["aids"])


def test_negatives_without_a_size_have_that_of_a_positive(pictures):
    sampler = CocoSampler(pictures)
    sizes = {(int(np.ceil(a["bbox"][3])), int(np.ceil(a["bbox"][2]))) for a in pictures.anns.values()}
    for seed in range(20):
        assert sampler.load_negative(rng=seed)["im"].shape[:2] in sizes
    bare = kwcoco.CocoDataset({"images": pictures.dataset["images"]}, bundle_dpath=pictures.bundle_dpath)
    with pytest.raises(OptionError, match="give window_dims"):
        CocoSampler(bare).load_negative()
    free = CocoSampler(bare)
    free.preselect(n_neg=2, window_dims=(3, 3))
    assert free.load_negative(1)["im"].shape[:2] == (3, 3)


def test_that_there_is_no_negative_is_proved(tmp_path):
    dset = make_pictures(tmp_path, [(12, 12)])
    dset.add_annotation(1, category_id=1)
    sampler = CocoSampler(dset)
    with pytest.raises(
        SamplingError, match=r"all 64 positions in 1 images were examined.*at least 25 annotated"
    ) as caught:
        sampler.preselect(n_neg=1, window_dims=(5, 5))
    assert "max_overlap" in str(caught.value)
    sampler.preselect(n_neg=1, window_dims=(5, 5), max_overlap=1.0)
    with pytest.raises(OptionError, match="no annotated image has windows"):
        sampler.preselect(n_neg=1, window_dims=(5, 5, 5))


def test_background_is_no_obstacle_and_names_the_negatives(tmp_path):
    dset = make_pictures(tmp_path, [(12, 12)])
    dset.remove_annotations(list(dset.anns))
    dset.add_annotation(1, category_id=3, bbox=[0, 0, 12, 12])
    sampler = CocoSampler(dset)
    sampler.preselect(n_neg=1, window_dims=(12, 12))
    assert sampler.regions.get_negative(0)["category_id"] == 3 == sampler.BACKGROUND_CLASS_ID
    dset.remove_categories([3])
    assert CocoSampler(dset).BACKGROUND_CLASS_ID == 0
    dset.add_category("zero", id=0)
    assert CocoSampler(dset).BACKGROUND_CLASS_ID == -1


def test_cases_without_labels_give_no_negatives(bundle):
    sampler = CocoSampler.coerce(bundle)
    assert any(not i["ndvol"]["labels"] for i in sampler.dset.dataset["images"])
    drawn = set()
    for window in ((2, 2, 2), (1, 2, 2, 2)):
        sampler.preselect(n_neg=80, window_dims=window, rng=0, max_overlap=0.3)
        for index in range(sampler.n_positives, len(sampler)):
            sample = sampler.load_item(index)
            name = sampler.dset.imgs[sample["target"]["gid"]]["name"]
            drawn.add(name)
            assert sample["params"]["window"].shape == window
            assert sample["params"]["valid"].shape == window or name == "thin"
    assert drawn - {"thin"} == {"ct", "oblique", "two", "colour", "spectrum", "time"}
    sampler.preselect(n_neg=80, window_dims=(3, 3), rng=0, max_overlap=0.3)
    drawn = {sampler.dset.imgs[sampler.regions.get_negative(i)["gid"]]["name"] for i in range(80)}
    assert drawn == {"one"}, "nobody looked for objects in the case 'pair'"


def test_a_new_generator_each_time_unless_seeded():
    assert rng_of(3).random() == rng_of(3).random()
    assert rng_of(None).random() != rng_of(None).random()
    generator = np.random.default_rng(0)
    assert rng_of(generator) is generator
    assert rng_of(np.random.RandomState(1)).random() == rng_of(np.random.RandomState(1)).random()


def test_overlapping_aids(pictures, bundle):
    regions = CocoSampler(pictures).regions
    box = pictures.anns[1]["bbox"]
    right = kwimage.Boxes([[box[0] + box[2], box[1], 3, 3]], "xywh")
    assert 1 not in regions.overlapping_aids(1, right), "a common border is no overlap"
    assert 1 in regions.overlapping_aids(1, right, touching=True)
    inner = Window((box[1], box[0]), (box[3], box[2]))
    assert 1 in regions.overlapping_aids(1, inner, visible_thresh=1.0), "what lies in it wholly is kept"
    half = (slice(box[1], box[1] + box[3]), slice(box[0], box[0] + box[2] // 2))
    share = (box[2] // 2) / box[2]
    assert 1 in regions.overlapping_aids(1, half, visible_thresh=share)
    assert 1 not in regions.overlapping_aids(1, half, visible_thresh=share + 1e-9)
    touching = CocoSampler(pictures, touching=True).regions
    assert 1 in touching.overlapping_aids(1, right)
    cases = CocoSampler.coerce(bundle)
    everything = sorted(cases.dset.index.gid_to_aids[1])
    assert cases.regions.overlapping_aids(1, kwimage.Boxes([[-5, -5, 99, 99]], "xywh")) == everything
    with pytest.raises(OptionError, match="one box"):
        regions.overlapping_aids(1, kwimage.Boxes([[0, 0, 1, 1]] * 2, "xywh"))
    with pytest.raises(UnknownNameError):
        regions.overlapping_aids(77, right)


def test_counts_and_names(pictures):
    sampler = CocoSampler(pictures)
    assert (sampler.n_images, sampler.n_categories, sampler.image_ids, sampler.class_ids) == (
        3,
        3,
        [1, 2, 3],
        [1, 2, 3],
    )
    assert list(sampler.classes) == ["thing", "other", "background"] == list(sampler.catgraph)
    assert (sampler.lookup_class_name(2), sampler.lookup_class_id("other")) == ("other", 2)
    assert [s is not None for s in sampler.regions.get_segmentations([1, 2])] == [False, True]
    assert "3 images, 15 annotations" in repr(sampler)


@pytest.mark.parametrize(("window", "overlap"), [((7, 9), 0), ((7, 9), (0.5, 0.2)), ((50, 4), 0.3), ("full", 0)])
def test_a_grid_covers_every_voxel_and_loads(pictures, window, overlap):
    sampler = CocoSampler(pictures)
    grid = sampler.new_sample_grid("image_detection", window, overlap)
    covered = {gid: np.zeros(sampler.load_image(gid).shape[:2], int) for gid in (1, 2, 3)}
    roles = dict.fromkeys(grid["positives_indexes"], True) | dict.fromkeys(grid["negatives_indexes"], False)
    assert sorted(roles) == list(range(len(grid["targets"])))
    for index, target in enumerate(grid["targets"]):
        y, x = target["slices"]
        covered[target["gid"]][y, x] += 1
        sample = sampler.load_sample(target)
        assert sample["im"].shape[:2] == (y.stop - y.start, x.stop - x.start)
        assert sample["annots"]["aids"].tolist() == target["aids"]
        assert roles[index] == bool(target["aids"])
    assert all(c.min() >= 1 for c in covered.values())
    assert grid["positives"] == [grid["targets"][i] for i in grid["positives_indexes"]]


def test_a_grid_deeper_than_its_video_loads(tmp_path):
    dset, voxels = make_video(tmp_path)
    sampler = CocoSampler(dset)
    grid = sampler.new_sample_grid("video_detection", (8, 10, 12), 0.25)
    seen = np.zeros(voxels.shape, bool)
    assert grid["targets"][0]["gids"] == [1, 2, 3, 4, 5]
    for target in grid["targets"]:
        sample = sampler.load_sample(target)
        assert sample["im"].shape == (8, 10, 12, 1)
        np.testing.assert_array_equal(sample["im"][:5, ..., 0], voxels[(slice(None), *target["space_slice"])])
        assert not sample["im"][5:].any()
        assert sorted(sample["annots"]["aids"].tolist()) == target["aids"]
        seen[(slice(None), *target["space_slice"])] = True
    assert seen.all()
    halves = sampler.new_sample_grid("video_detection", (2, None, None))
    assert [t["time_slice"] for t in halves["targets"]] == [slice(0, 2), slice(2, 4), slice(3, 5)]


def test_grids_of_cases_have_all_axes(bundle):
    sampler = CocoSampler.coerce(bundle)
    chosen = sampler.dset.subset([1, 2, 3])
    chosen.reroot(absolute=True)
    sampler = CocoSampler(chosen)
    grid = sampler.new_sample_grid("image_detection", (2, 8, 8), 0.5)
    for target in grid["targets"][::5]:
        sample = sampler.load_sample(target)
        assert sample["params"]["window"].shape == (2, 8, 8)
        assert sample["annots"]["aids"].tolist() == target["aids"]


def test_classes_and_ignored_regions_decide_of_grids(tmp_path):
    (tmp_path / "g").mkdir()
    Image.fromarray(np.zeros((10, 40), np.uint8)).save(tmp_path / "g" / "0.png")
    dset = kwcoco.CocoDataset()
    dset.fpath = str(tmp_path / "g" / "data.kwcoco.json")
    for name in ("Cat", "dog", "Ignore", "background"):
        dset.add_category(name)
    dset.add_image(file_name="0.png", width=40, height=10)
    for category, box in (
        (1, [1, 1, 3, 3]),
        (2, [11, 1, 3, 3]),
        (4, [31, 1, 3, 3]),
        (3, [20, 0, 4, 10]),
        (3, [23, 0, 4, 10]),
    ):
        dset.add_annotation(1, category_id=category, bbox=box)
    sampler = CocoSampler(dset)

    def positives(**options):
        grid = sampler.new_sample_grid("image_detection", (10, 10), **options)
        return [t["slices"][1].start for t in grid["targets"]], [t["slices"][1].start for t in grid["positives"]]

    assert positives() == ([0, 10, 30], [0, 10]), "two ignored regions cover 7 of 10 columns together"
    assert positives(ignore_coverage_thresh=0.75) == ([0, 10, 20, 30], [0, 10])
    assert positives(ignore_coverage_thresh=None) == ([0, 10, 20, 30], [0, 10])
    assert positives(classes_of_interest=["cat"]) == ([0, 10, 30], [0])
    assert positives(negative_classes=()) == ([0, 10, 30], [0, 10, 30])
    bare = sampler.new_sample_grid("image_detection", (10, 10), use_annots=False, legacy=False)
    assert (len(bare["targets"]), bare["positives_indexes"], bare["targets"][0]["aids"]) == (4, [], None)
    assert "positives" not in bare
    with pytest.raises(OptionError, match="did you mean 'use_annots'"):
        sampler.new_sample_grid("image_detection", (10, 10), use_annot=False)
    with pytest.raises(OptionError, match="no such task"):
        sampler.new_sample_grid("image_classification", (10, 10))
    for window in ((10,), (10, 2.5), "whole"):
        with pytest.raises(OptionError, match="window_dims does not fit"):
            sampler.new_sample_grid("image_detection", window)
