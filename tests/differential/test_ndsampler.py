"""CocoSampler against ndsampler itself, on the slice export of a bundle and on plain pictures.

Skipped without ndsampler: ``pip install ndsampler opencv-python-headless``.

Pixels are equal everywhere. The sets of objects are equal under ndsampler's rule (``touching=True``); without it they
differ by what `unseen` works out from the masks themselves. Not compared, because they differ on purpose:

- windows that lie wholly outside: ndsampler moves their offset to the border, and the boxes with it;
- time slices that leave the video, and time padding: ndsampler refuses them;
- extents that are no integers: ndsampler rounds them up before it centres;
- the border of floating videos: outside is nan in ndsampler and 0 here, and where a window leaves the frame ndsampler
  also makes the last real rows and columns nan;
- videos of int32 and other types that OpenCV's remap does not know: ndsampler fails where a window leaves the frame;
- channels of videos that are not asked for by name: ndsampler sorts them;
- a `visible_thresh` that an object meets exactly, 1.0 above all: ndsampler asks for more;
- `scale`: equal to two grey values of a smooth picture, but not at the border, where ndsampler mixes in what lies
  outside the patch; nearest neighbours differ by half a pixel;
- slices together with other `window_dims`: ndsampler passes over the latter, here it is an error;
- `preselect`, negatives and grids: what ndsampler does there is listed as defects; the positives of grids are compared.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

ndsampler = pytest.importorskip("ndsampler", reason="ndsampler is not installed")
pytest.importorskip("cv2", reason="ndsampler needs OpenCV")
sys.path.insert(0, str(Path(__file__).parents[1] / "exporting"))

import bundles  # noqa: E402
import kwcoco  # noqa: E402
import kwimage  # noqa: E402
from PIL import Image  # noqa: E402

from ndvol.coco import CocoSampler  # noqa: E402
from ndvol.exporting import export_slices  # noqa: E402
from ndvol.formats.rle import mask_of_rle  # noqa: E402
from ndvol.opening import open_catalog  # noqa: E402

CASES = ("ct", "oblique", "two", "time", "colour", "pair")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = bundles.make_bundle(tmp_path_factory.mktemp("parity") / "bundle", CASES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kwcoco.CocoDataset(str(export_slices(open_catalog(folder), folder.with_name("slices"))))


@pytest.fixture(scope="module")
def samplers(export, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    ours = {
        "closed": CocoSampler(export, touching=True),
        "stored": CocoSampler(export, work, backend="hdf5", touching=True),
        "mapped": CocoSampler(export, work, backend="npy", touching=True),
        "default": CocoSampler(export),
    }
    return ndsampler.CocoSampler(export), ours


def some_slice(rng, length):
    """A slice that holds at least one index of an axis, and may leave it on both sides."""
    start = int(rng.integers(-length // 2, length))
    return slice(start, int(rng.integers(max(start, 0) + 1, length + length // 2 + 2)))


def random_target(rng, dset):
    """A target that both understand alike; see the list above."""
    target = {}
    videos = list(dset.index.videos)
    kind = rng.choice(["gid", "aid", "vidid", "gids"])
    if kind in ("gid", "aid"):
        gid = int(rng.choice(list(dset.imgs)))
        if kind == "aid":
            aid = int(rng.choice(list(dset.anns)))
            gid, target = dset.anns[aid]["image_id"], {"aid": aid}
        else:
            target["gid"] = gid
        height, width = dset.imgs[gid]["height"], dset.imgs[gid]["width"]
        pad = (int(rng.integers(4)), int(rng.integers(4)))
    else:
        vidid = int(rng.choice(videos))
        gids = list(dset.index.vidid_to_gids[vidid])
        height, width = dset.index.videos[vidid]["height"], dset.index.videos[vidid]["width"]
        frames = dset.index.videos[vidid]["ndvol"]["images"]
        names = [n if f["channels"] is None else f"{n}:{f['channels']}" for n, f in frames.items()]
        target["channels"] = "|".join(names) if rng.random() < 0.6 else names[-1]
        if kind == "vidid":
            start = int(rng.integers(len(gids)))
            target |= {"vidid": vidid, "time_slice": slice(start, int(rng.integers(start + 1, len(gids) + 1)))}
        else:
            target["gids"] = [int(g) for g in rng.permutation(gids)[: rng.integers(1, len(gids) + 1)]]
        pad = (0, int(rng.integers(4)), int(rng.integers(4)))
    if rng.random() < 0.5:
        target["pad"] = pad
    if kind != "aid" or rng.random() < 0.3:
        way = rng.choice(["space_slice", "centre", "whole"])
        if way == "space_slice":
            target["space_slice"] = (some_slice(rng, height), some_slice(rng, width))
        elif way == "centre":
            target |= {"cx": float(rng.integers(2 * width)) / 2, "cy": float(rng.integers(2 * height)) / 2}
            target |= {"width": int(rng.integers(1, 2 * width)), "height": int(rng.integers(1, 2 * height))}
    if "cx" in target or (kind == "aid" and "space_slice" not in target):
        target["window_dims"] = [None, "extent", "square", (5, 9)][rng.integers(4)]
    return target


def load(sampler, target, **options):
    return sampler.load_sample({k: v for k, v in target.items() if v is not None}, **options)


def without_nan_border(patch, found):
    """ndsampler's patch of a floating video with ours in place of its nan, which may lie outside and on the border."""
    if patch.dtype.kind != "f":
        return patch
    valid = found["params"]["valid"]
    inner = np.zeros(patch.shape, bool)
    inner[(slice(None), *(slice(s.start + 1, s.stop - 1) for s in valid.slices[1:]))] = True
    missing = np.isnan(patch)
    if valid.shape == patch.shape[:-1]:
        assert not missing.any(), "a window that lies inside has no border"
    assert not (missing & inner).any()
    return np.where(missing, found["im"], patch).astype(patch.dtype)


def objects_of(sample):
    return [(f, a) for f, a in zip(sample["annots"]["rel_frame_index"], sample["annots"]["aids"], strict=True)]


def in_order(sample):
    """aid, frame, box rows of a sample, sorted: ndsampler's order is that of its tree."""
    rows = np.c_[objects_of(sample) or np.empty((0, 2)), sample["annots"]["rel_boxes"].to_xywh().data.reshape(-1, 4)]
    return rows[np.lexsort(rows.T[::-1])]


def unseen(dset, theirs, sample):
    """What ndsampler returns and the default rule does not: no voxel of the mask lies in the window."""
    (x0, y0, x1, y1) = np.asarray(sample["params"]["sample_tlbr"].data).reshape(4).tolist()
    missing = []
    for frame, aid in objects_of(theirs):
        annotation = dset.anns[aid]
        image = dset.imgs[annotation["image_id"]]
        mask = mask_of_rle(annotation["segmentation"], (image["height"], image["width"]))
        if not mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)].any():
            missing.append((frame, aid))
    return missing


@pytest.mark.parametrize("number", [150, pytest.param(500, marks=pytest.mark.slow)])
def test_random_targets_give_equal_pixels_and_objects(export, samplers, number):
    theirs, ours = samplers
    rng = np.random.default_rng(2024)
    kinds, hidden, kept = [], 0, 0
    for _ in range(number):
        target = random_target(rng, export)
        expected = load(theirs, target)
        for name, sampler in ours.items():
            found = load(sampler, target)
            assert found["im"].dtype == expected["im"].dtype, (name, target)
            patch = without_nan_border(expected["im"].reshape(found["im"].shape), found)
            np.testing.assert_array_equal(found["im"], patch, err_msg=str(target))
            if name != "default":
                np.testing.assert_array_equal(in_order(found), in_order(expected), err_msg=str(target))
        gone = unseen(export, expected, found)
        assert sorted(objects_of(found)) == sorted(set(objects_of(expected)) - set(gone)), target
        np.testing.assert_array_equal(found["params"]["offset"], expected["params"]["offset"])
        np.testing.assert_allclose(found["params"]["tf_rel_to_abs"], expected["params"]["tf_rel_to_abs"])
        np.testing.assert_array_equal(found["params"]["st_dims"], expected["params"]["st_dims"])
        if "gids" not in target:  # of frames chosen one by one ndsampler gives the size of their whole video
            assert found["params"]["data_dims"] == expected["params"]["data_dims"]
        for key in ("slices", "space_slice", "space_dims"):
            assert found["target"][key] == expected["target"][key], (key, target)
        if "aid" in target:
            assert (found["target"]["annot_idx"] >= 0) == ((0, target["aid"]) in objects_of(found))
        kinds.append(next(k for k in ("aid", "gid", "vidid", "gids") if k in target))
        hidden, kept = hidden + len(gone), kept + len(found["annots"]["aids"])
    assert min(kinds.count(k) for k in ("aid", "gid", "vidid", "gids")) > number / 10
    assert hidden > number / 5, "the differing rule was never tried"
    assert kept > 2 * number


def test_thresholds_keep_the_same_objects(export, samplers):
    theirs, ours = samplers
    rng = np.random.default_rng(7)
    kept = 0
    for _ in range(60):
        target, threshold = random_target(rng, export), float(rng.random())
        expected = load(theirs, target, visible_thresh=threshold)
        found = load(ours["closed"], target, visible_thresh=threshold)
        assert sorted(objects_of(found)) == sorted(objects_of(expected)), (target, threshold)
        kept += len(objects_of(found))
    assert kept > 100


def test_annotations_are_drawn_alike(export, samplers):
    theirs, ours = samplers
    rng = np.random.default_rng(11)
    polygons = 0
    for _ in range(40):
        target = random_target(rng, export)
        expected, found = load(theirs, target), load(ours["closed"], target)
        assert len(found["annots"]["frame_dets"]) == len(expected["annots"]["frame_dets"])
        for one, other in zip(found["annots"]["frame_dets"], expected["annots"]["frame_dets"], strict=True):
            by_aid = {a: k for k, a in enumerate(other.data["aids"])}
            assert sorted(one.data["aids"]) == sorted(by_aid)
            for k, aid in enumerate(one.data["aids"]):
                j = by_aid[aid]
                assert one.data["cids"][k] == other.data["cids"][j]
                a, b = one.data["segmentations"].data[k], other.data["segmentations"].data[j]
                for p, q in zip(a.data, b.data, strict=True):
                    np.testing.assert_allclose(p.data["exterior"].data, q.data["exterior"].data)
                    polygons += 1
    assert polygons > 100


def test_scaled_samples_are_close(tmp_path):
    y, x = np.mgrid[:60, :80]
    Image.fromarray((120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)).astype(np.uint8)).save(tmp_path / "0.png")
    dset = kwcoco.CocoDataset()
    dset.fpath = str(tmp_path / "data.kwcoco.json")
    video = dset.add_video("smooth", width=80, height=60)
    gid = dset.add_image(file_name="0.png", width=80, height=60, video_id=video, frame_index=0, channels="gray")
    dset.add_annotation(gid, category_id=dset.add_category("thing"), bbox=[20, 15, 11, 30])
    theirs, ours = ndsampler.CocoSampler(dset), CocoSampler(dset)
    for scale in (0.25, 0.5, 0.7, 1.3, 2.0, 3.7, (2.0, 1.5)):
        target = {"vidid": video, "space_slice": (slice(10, 50), slice(12, 70)), "scale": scale}
        expected, found = load(theirs, target), load(ours, target)
        assert found["im"].shape == expected["im"].shape, target
        # The outer pixels of ndsampler's patch are mixed with the nothing around it.
        difference = np.abs(found["im"].astype(int) - expected["im"])[:, 2:-2, 2:-2]
        assert difference.max() <= 2, target
        np.testing.assert_allclose(found["annots"]["rel_boxes"].data, expected["annots"]["rel_boxes"].data)
        np.testing.assert_allclose(found["params"]["tf_rel_to_abs"], expected["params"]["tf_rel_to_abs"])


def test_pictures_and_classification_data(tmp_path):
    rng = np.random.default_rng(3)
    dset = kwcoco.CocoDataset()
    dset.fpath = str(tmp_path / "data.kwcoco.json")
    for name in ("thing", "background"):
        dset.add_category(name)
    for number, shape in enumerate([(40, 50), (33, 61, 3), (64, 20)]):
        array = rng.integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(array).save(tmp_path / f"{number}.png")
        gid = dset.add_image(file_name=f"{number}.png", width=shape[1], height=shape[0])
        dset.add_annotation(gid, category_id=1, bbox=[0, 0, shape[1], shape[0]])
        for _ in range(6):
            x, y = int(rng.integers(0, shape[1] - 5)), int(rng.integers(0, shape[0] - 5))
            dset.add_annotation(gid, category_id=1, bbox=[x, y, 5, 4], segmentation=[x, y, x + 5, y, x, y + 4])
    theirs, ours = ndsampler.CocoSampler(dset, verbose=0), CocoSampler(dset, touching=True)
    assert len(theirs) == len(ours) == 21
    for index in range(21):
        for extra in ({}, {"window_dims": "square"}, {"window_dims": (12, 8), "pad": (3, 2)}):
            one, other = ours.load_item(index, target=extra), theirs.load_item(index, target=extra)
            np.testing.assert_array_equal(one["im"], other["im"].reshape(one["im"].shape))
            np.testing.assert_array_equal(in_order(one), in_order(other))
            assert one["target"]["annot_idx"] >= 0
            assert one["annots"]["cids"].tolist() == other["annots"]["cids"].tolist()


@pytest.mark.parametrize(
    ("task", "window", "overlap"),
    [("image_detection", (7, 6), 0), ("image_detection", (8, 5), 0.5), ("video_detection", (2, 8, 7), 0.25)],
)
def test_grids_have_the_same_windows_and_positives(export, samplers, task, window, overlap):
    theirs, ours = samplers
    expected = theirs.regions.new_sample_grid(task, window, overlap, verbose=0)
    found = ours["closed"].new_sample_grid(task, window, overlap)
    keys = ("gid", "vidid", "slices", "time_slice", "space_slice", "gids")
    assert [{k: t.get(k) for k in keys} for t in found["targets"]] == [
        {k: list(t[k]) if k == "gids" and k in t else t.get(k) for k in keys} for t in expected["targets"]
    ]
    assert [sorted(t["aids"]) for t in found["targets"]] == [sorted(t["aids"]) for t in expected["targets"]]
    # ndsampler's indexes are one too high; its lists are right.
    assert found["positives_indexes"] == [i - 1 for i in expected["positives_indexes"]]
    assert found["negatives_indexes"] == [i - 1 for i in expected["negatives_indexes"]]
    assert found["positives"] == [found["targets"][i] for i in found["positives_indexes"]]
    assert len(found["positives"]) > 20


def test_overlapping_aids(export, samplers):
    theirs, ours = samplers
    rng = np.random.default_rng(0)
    for _ in range(200):
        gid = int(rng.choice(list(export.imgs)))
        box = kwimage.Boxes([[*rng.integers(-5, 20, 2), *rng.integers(1, 15, 2)]], "xywh")
        found = ours["closed"].regions.overlapping_aids(gid, box)
        assert found == sorted(theirs.regions.overlapping_aids(gid, box))
