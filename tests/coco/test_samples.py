"""Samples of pictures, videos and cases against arrays, masks counted voxel by voxel, and kwcoco's own reader."""

from __future__ import annotations

import json
import pickle
import sys
import warnings

import kwcoco
import numpy as np
import pytest
from bundles import make_pet_ct
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from toysets import make_pictures, make_video

import ndvol
from ndvol.coco import CocoSampler
from ndvol.coco.annotations import Boxes, box_shares, overlaps, touches
from ndvol.coco.lattice import Lattice
from ndvol.errors import CatalogError, NdvolError, OptionError, SourceError, UnknownNameError
from ndvol.geometry import Window


def cut(array, start, shape, fill=0):
    """The window of an array, `fill` outside; by one loop over all voxels."""
    out = np.full((*shape, *array.shape[len(shape) :]), fill, array.dtype)
    for at in np.ndindex(*shape):
        source = tuple(s + a for s, a in zip(start, at, strict=True))
        if all(0 <= s < n for s, n in zip(source, array.shape, strict=False)):
            out[at] = array[source]
    return out


@given(st.integers(1, 4), st.data())
def test_overlap_is_a_shared_voxel(ndim, data):
    half = st.integers(-12, 12).map(lambda n: n / 2)
    start = [data.draw(half) for _ in range(ndim)]
    extent = [data.draw(st.integers(0, 8)) / 2 for _ in range(ndim)]
    boxes = Boxes("tzyx"[-ndim:], ("",), np.array([1]), np.array([start]), np.array([start]) + extent)
    lattice = Lattice(
        tuple(data.draw(st.integers(-6, 6)) for _ in range(ndim)),
        tuple(data.draw(st.integers(0, 5)) for _ in range(ndim)),
        tuple(data.draw(st.integers(1, 4)) for _ in range(ndim)),
    )
    shared = all(
        e > 0 and any(i < a + e and i + 1 > a for i in lattice.indices(axis).tolist())
        for axis, (a, e) in enumerate(zip(start, extent, strict=True))
    )
    assert overlaps(boxes, lattice)[0] == shared
    hull = lattice.hull
    closed = all(a <= hi and a + e >= lo for a, e, lo, hi in zip(start, extent, hull.start, hull.stop, strict=True))
    assert touches(boxes, hull)[0] == closed
    share = 1.0
    for a, e, lo, hi in zip(start, extent, hull.start, hull.stop, strict=True):
        share *= max(0.0, min(a + e, hi) - max(a, lo)) / e if e else 0.0
    assert box_shares(boxes, hull, np.array([0]))[0] == pytest.approx(share)
    inside = all(
        e and lo <= a and a + e <= hi for a, e, lo, hi in zip(start, extent, hull.start, hull.stop, strict=True)
    )
    assert (box_shares(boxes, hull, np.array([0]))[0] == 1.0) == (inside and bool(share))


def test_a_window_of_a_picture(pictures):
    sampler = CocoSampler(pictures)
    pixels = np.asarray(Image.open(f"{pictures.bundle_dpath}/1.png"))
    sample = sampler.load_sample({"gid": 2, "cx": 30, "cy": 4.5, "width": 20, "height": 11})
    assert sample["params"]["window"] == Window((-1, 20), (11, 20))
    np.testing.assert_array_equal(sample["im"], cut(pixels, (-1, 20), (11, 20)))
    assert sample["params"]["valid"] == Window((1, 0), (10, 16))
    assert sample["tr"] is sample["target"]
    assert sample["params"]["channels"] == ("r", "g", "b")
    stepped = sampler.load_sample({"image_id": 2, "slices": (slice(-4, 9, 3), slice(0, None, 5)), "pad": (1, 2)})
    rows, columns = range(-7, 12, 3), range(-10, 46, 5)
    assert stepped["im"].shape == (len(rows), len(columns), 3) == (7, 12, 3)
    for (i, y), (j, x) in ((a, b) for a in enumerate(rows) for b in enumerate(columns)):
        expected = pixels[y, x] if 0 <= y < 25 and 0 <= x < 36 else 0
        np.testing.assert_array_equal(stepped["im"][i, j], expected)
    outside = sampler.load_sample({"gid": 2, "slices": (slice(-20, -10), slice(700, 710)), "padkw": {"mode": "edge"}})
    assert (outside["im"] == pixels[0, -1]).all()
    assert outside["params"]["st_dims"] == [(-20, -10), (700, 710)]
    assert outside["params"]["offset"].tolist() == [-700, 20]
    empty = sampler.load_sample({"gid": 1, "slices": (slice(5, 5), slice(0, 9))})
    assert empty["im"].shape == (0, 9, 1)
    assert empty["annots"]["aids"].dtype == np.int64
    assert not len(empty["annots"]["aids"])


def test_loading_an_answer_gives_the_same_sample(pictures, video, bundle):
    films, _ = video
    tasks = [(CocoSampler(pictures), {"aid": 3, "window_dims": "square", "pad": 2})]
    tasks += [(CocoSampler(pictures), {"gid": 2, "cx": 3.3, "cy": 9, "window_dims": (8, 7.5), "scale": 1.5})]
    film = CocoSampler(films)
    tasks += [(film, {"vidid": 1, "time_slice": slice(-1, 3), "cx": 4, "cy": 4, "width": 9, "height": 9})]
    tasks += [(film, {"vidid": 1, "slices": (slice(1, 9, 2), slice(0, 5), slice(3, 9))})]
    tasks += [(film, {"gids": [4, 1, 2], "pad": (1, 0, 0)}), (film, {"gids": [5], "time_slice": slice(-1, 1)})]
    tasks += [(film, {"vidid": 1, "time_slice": slice(-5, -1)}), (film, {"vidid": 1, "gids": [5, 4]})]
    tasks += [
        (CocoSampler.coerce(bundle), {"aid": 5, "pad": 3}),
        (CocoSampler.coerce(bundle), {"gid": 4, "cz": 2, "depth": 3}),
    ]
    for sampler, target in tasks:
        before = dict(target)
        one = sampler.load_sample(target)
        assert target == before, "the caller's dictionary is his own"
        two = sampler.load_sample(one["target"])
        np.testing.assert_array_equal(one["im"], two["im"])
        assert one["annots"]["aids"].tolist() == two["annots"]["aids"].tolist()
        assert one["params"]["window"] == two["params"]["window"]


def test_masks_decide_what_is_seen(pictures):
    sampler, closed = CocoSampler(pictures), CocoSampler(pictures, touching=True)
    masked = [a for a in pictures.anns.values() if "segmentation" in a]
    assert masked
    rng = np.random.default_rng(0)
    hidden = kept = 0
    for annotation in masked:
        image = pictures.imgs[annotation["image_id"]]
        mask = sampler._annotations.masks.get(annotation["id"])
        full = np.zeros((image["height"], image["width"]), bool)
        full[mask[0].slices] = mask[1]
        for _ in range(200):
            y, x = rng.integers(-2, image["height"]), rng.integers(-2, image["width"])
            h, w = rng.integers(1, 9, 2)
            threshold = float(rng.choice([0.0, 0.3, 0.5, 1.0]))
            target = {"gid": image["id"], "slices": (slice(int(y), int(y + h)), slice(int(x), int(x + w)))}
            share = cut(full, (y, x), (h, w)).sum() / full.sum()
            aids = sampler.load_sample(target, visible_thresh=threshold)["annots"]["aids"]
            assert (annotation["id"] in aids) == (share > 0 and share >= threshold)
            by_box = annotation["id"] in closed.load_sample(target)["annots"]["aids"]
            hidden, kept = hidden + (by_box and not share), kept + bool(share)
    assert hidden > 5
    assert kept > 20


def test_objects_of_a_case_are_seen_by_their_voxels(bundle):
    sampler = CocoSampler.coerce(bundle)
    gid = next(i["id"] for i in sampler.dset.dataset["images"] if i["name"] == "oblique")
    case = ndvol.open(bundle)["oblique"]
    volume = case.images["MR"][...]
    objects = {aid: sampler.dset.anns[aid]["ndvol"] for aid in sampler.dset.index.gid_to_aids[gid]}
    masks = {aid: component(case.labels[facts["label"]][...], facts) for aid, facts in objects.items()}
    rng, checked = np.random.default_rng(3), 0
    for _ in range(300):
        start = [int(rng.integers(-2, n)) for n in volume.shape]
        shape = [int(rng.integers(1, 6)) for _ in range(3)]
        target = {"gid": gid, "slices": tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))}
        sample = sampler.load_sample(target, visible_thresh=0.25)
        np.testing.assert_array_equal(sample["im"][..., 0], cut(volume, start, shape))
        values = {aid: cut(mask, start, shape).sum() / mask.sum() for aid, mask in masks.items()}
        assert sample["annots"]["aids"].tolist() == sorted(a for a, v in values.items() if v >= 0.25)
        checked += len(sample["annots"]["aids"])
        for aid, low, high in zip(*(sample["annots"][k] for k in ("aids", "rel_start", "rel_stop")), strict=True):
            assert (low + start).tolist() == objects[aid]["start"]
            assert (high + start).tolist() == objects[aid]["stop"]
        world = sample["params"]["grid"].world((0, 0, 0))
        np.testing.assert_allclose(world, case.images["MR"].grid.world(start))
    assert checked > 40


def component(labels, facts):
    """The voxels of an object, by flood filling from a voxel on each side of its box."""
    box = tuple(slice(a, b) for a, b in zip(facts["start"], facts["stop"], strict=True))
    left = set(map(tuple, np.argwhere(labels == facts["value"]).tolist()))
    while left:
        todo, part = [left.pop()], []
        while todo:
            at = todo.pop()
            part.append(at)
            near = {tuple(a + d - 1 for a, d in zip(at, step, strict=True)) for step in np.ndindex(*(3,) * labels.ndim)}
            todo += near & left
            left -= near
        cells = np.array(part)
        mask = np.zeros(labels.shape, bool)
        mask[tuple(cells.T)] = True
        if (
            tuple(slice(a, b + 1) for a, b in zip(cells.min(0), cells.max(0), strict=True)) == box
            and len(part) == facts["voxels"]
        ):
            return mask
    raise AssertionError(facts)


def test_cases_have_all_axes_and_their_images_as_channels(bundle):
    sampler = CocoSampler.coerce(bundle)
    ids = {image["name"]: image["id"] for image in sampler.dset.dataset["images"]}
    catalog = ndvol.open(bundle)
    two = sampler.load_sample({"gid": ids["two"], "cz": 1.5, "depth": 3, "pad": (1, 0, 0)})
    assert two["im"].shape == (5, 16, 11, 2)
    assert two["im"].dtype == np.result_type(np.float32, np.uint8)
    for k, name in enumerate(("T1", "T2")):
        np.testing.assert_array_equal(two["im"][1:-1, ..., k], catalog["two"].images[name][...])
    only = sampler.load_sample({"gid": ids["two"], "channels": "T2"})
    assert (only["im"].dtype, only["im"].shape) == (np.uint8, (3, 16, 11, 1))
    time = sampler.load_sample({"gid": ids["time"], "time_slice": slice(1, 4), "cy": 6, "height": 4})
    assert time["params"]["axes"] == "tzyx"
    np.testing.assert_array_equal(time["im"][:2, ..., 0], catalog["time"].images["MR"][1:, :, 4:8])
    assert not time["im"][2].any()
    colour = sampler.load_sample({"gid": ids["colour"], "channels": ["photo.2", "photo.0"]})
    np.testing.assert_array_equal(colour["im"], np.moveaxis(catalog["colour"].images["photo"][...], 0, -1)[..., [2, 0]])
    with pytest.raises(UnknownNameError, match=r"no channel .*PET.*T1\|T2"):
        sampler.load_sample({"gid": ids["two"], "channels": "PET"})
    scaled = sampler.load_sample({"gid": ids["ct"], "scale": (0.5, 0.5, 2)})
    assert scaled["im"].shape == (10, 10, 12, 1)
    assert scaled["params"]["grid"] is None


def test_a_case_on_two_grids_is_read_one_grid_at_a_time(tmp_path):
    folder = make_pet_ct(tmp_path / "bundle")
    sampler, case = CocoSampler.coerce(folder), ndvol.open(folder)["ct"]
    with pytest.raises(OptionError, match=r"lie on different grids.*channels='CT'"):
        sampler.load_sample({"gid": 1})
    drawn = {"organs": 0, "uptake": 0}
    for number in range(sampler.n_positives):
        sample = sampler.load_positive(number)
        facts = sampler.dset.anns[sample["target"]["aid"]]["ndvol"]
        image, label = ("PET", "uptake") if facts["label"] == "uptake" else ("CT", "organs")
        target = sampler.regions.get_positive(number)
        assert target["channels"] == image
        with pytest.raises(OptionError, match=r"different grids|lies on another grid"):
            sampler.load_sample(target | {"channels": "CT|PET", "slices": (slice(0, 1),) * 3})
        window = Window.between(facts["start"], facts["stop"])
        np.testing.assert_array_equal(sample["im"][..., 0], case.images[image].read(window))
        assert sample["params"]["grid"].matches(case.labels[label].grid.crop(window))
        names = {sampler.dset.anns[a]["ndvol"]["label"] for a in sample["annots"]["aids"]}
        assert names == {label}, "objects on the other grid are left out"
        drawn[label] += 1
        other = "CT" if image == "PET" else "PET"
        with pytest.raises(OptionError, match="lies on another grid than the channels"):
            sampler.load_sample({"aid": sample["target"]["aid"], "channels": other})
    assert min(drawn.values()) > 3
    with pytest.raises(OptionError, match="no annotated image has windows"):
        sampler.preselect(n_neg=1, window_dims=(1, 1, 1))


def test_frames_become_time(video):
    dset, voxels = video
    sampler = CocoSampler(dset)
    for start, stop in ((0, 5), (-2, 3), (3, 9), (-4, -1), (7, 9)):
        target = {"vidid": 1, "time_slice": slice(start, stop), "space_slice": (slice(2, 9), slice(-3, 8))}
        sample = sampler.load_sample(target)
        np.testing.assert_array_equal(sample["im"][..., 0], cut(voxels, (start, 2, -3), (stop - start, 7, 11)))
        assert sample["im"].dtype == np.uint16
        assert len(sample["annots"]["frame_dets"]) == stop - start
        for number, found in enumerate(sample["annots"]["frame_dets"]):
            t = start + number
            seen = 0 <= t < 5 and 2 * t + 4 > -3 and 2 * t < 8 and 3 * t < 9 and 3 * t + 5 > 2
            assert len(found) == seen
            if seen:
                assert found.boxes.to_xywh().data.tolist() == [[2 * t + 3, 3 * t - 2, 4, 5]]
        rows = sample["annots"]["rel_frame_index"]
        assert sample["annots"]["rel_start"][:, 0].tolist() == rows.tolist()
        assert sample["annots"]["rel_stop"][:, 0].tolist() == (rows + 1).tolist()
    picked = sampler.load_sample({"gids": [5, 1, 3]})
    np.testing.assert_array_equal(picked["im"][..., 0], voxels[[4, 0, 2]])
    repeated = sampler.load_sample({"gids": [2, 2]})
    np.testing.assert_array_equal(repeated["im"][0], repeated["im"][1])
    padded = sampler.load_sample({"vidid": 1, "pad": 1, "padkw": {"mode": "edge"}})
    np.testing.assert_array_equal(padded["im"][..., 0], np.pad(voxels, 1, mode="edge"))
    alone = sampler.load_sample({"gid": 4})
    np.testing.assert_array_equal(alone["im"][..., 0], voxels[3])


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ({}, OptionError, "names no source"),
        ({"gid": 99}, UnknownNameError, "no image with id 99"),
        ({"vidid": 9}, UnknownNameError, "no video with id 9"),
        ({"aid": 99}, UnknownNameError, "no annotation with id 99"),
        ({"aid": 1, "gid": 3}, OptionError, "contradict"),
        ({"gids": []}, OptionError, "names no frame"),
        ({"vidid": 1, "gids": [4, 5], "time_slice": slice(0, 1)}, OptionError, "'gids' and the time slice contradict"),
        ({"gid": 1, "channels": "red"}, UnknownNameError, "no channel 'red'"),
        ({"gid": 1, "visible_thresh": 2}, OptionError, "out of range"),
        ({"gid": 1, "annot_ids": [77]}, UnknownNameError, "no annotation with id 77"),
        ({"aid": 1, "gids": [3]}, OptionError, "in none of the images"),
    ],
)
def test_targets_that_lead_nowhere(video, target, error, message):
    with pytest.raises(error, match=message):
        CocoSampler(video[0]).load_sample(target)


def test_arguments_of_older_programs(pictures):
    sampler = CocoSampler(pictures)
    sample = sampler.load_positive(0, pad=(10, 10), tr={"window_dims": (3, 3)})
    assert sample["im"].shape[:2] == (23, 23)
    assert "annots" not in sampler.load_sample({"gid": 1}, with_annots=False)
    boxes = sampler.load_sample({"gid": 1, "legacy_annots": False, "legacy_target": False}, with_annots="boxes")
    assert "tr" not in boxes
    assert set(boxes["annots"]) == {"frame_dets", "rel_start", "rel_stop"}
    assert all(s is None for s in boxes["annots"]["frame_dets"][0].data["segmentations"].data)
    chosen = sampler.load_sample({"gid": 1, "slices": (slice(0, 1), slice(0, 1))}, annot_ids=[2, 7])
    assert chosen["annots"]["aids"].tolist() == [2], "those of other images are passed over"
    with pytest.raises(OptionError, match="did you mean 'visible_thresh'"):
        sampler.load_sample({"gid": 1}, visible_tresh=0.5)
    with pytest.raises(OptionError, match="no such kind of annotation"):
        sampler.load_sample({"gid": 1}, with_annots="boxes+polygons")
    with pytest.raises(OptionError, match="needs a target"):
        sampler.load_sample()
    assert sampler.load_target_annots({"gid": 1}) == sampler.load_sample({"gid": 1})["annots"]["aids"].tolist()


def test_an_xarray_has_names(bundle, monkeypatch):
    pytest.importorskip("xarray")
    sampler = CocoSampler.coerce(bundle)
    found = sampler.load_sample({"gid": 3, "as_xarray": True})["im"]
    assert found.dims == ("z", "y", "x", "c")
    assert found.coords["c"].values.tolist() == ["T1", "T2"]
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(OptionError, match="needs xarray"):
        sampler.load_sample({"gid": 3, "as_xarray": True})


def test_scaled_boxes_lie_on_scaled_voxels(pictures):
    pixels = np.zeros((40, 60), np.uint8)
    pixels[10:20, 16:40] = 200
    Image.fromarray(pixels).save(f"{pictures.bundle_dpath}/bright.png")
    gid = pictures.add_image(file_name="bright.png", width=60, height=40)
    pictures.add_annotation(gid, category_id=1, bbox=[16, 10, 24, 10])
    sampler = CocoSampler(pictures)
    for scale, step in ((2, 1), (0.5, 1), ((1, 2), 1), (1, 2), (2, 2)):
        target = {
            "gid": gid,
            "slices": (slice(4, 36, step), slice(8, 56, step)),
            "scale": scale,
            "interpolation": "nearest",
        }
        sample = sampler.load_sample(target)
        inside = sample["im"][..., 0] == 200
        centres = np.argwhere(inside) + 0.5
        low, high = sample["annots"]["rel_start"][0], sample["annots"]["rel_stop"][0]
        assert (centres >= low).all()
        assert (centres < high).all()
        outer = np.argwhere(~inside) + 0.5
        assert not ((outer >= low) & (outer < high)).all(1).any()
        x, y, w, h = sample["annots"]["rel_boxes"].to_xywh().data[0]
        np.testing.assert_allclose([y, x, y + h, x + w], [*low, *high])
        back = sample["params"]["tf_rel_to_abs"] @ [x, y, 1]
        np.testing.assert_allclose(back[:2], [16, 10])


def test_assets_are_warped_as_kwcoco_does(tmp_path):
    rng = np.random.default_rng(0)
    fine, coarse = rng.integers(0, 255, (24, 32)).astype(np.uint8), rng.integers(0, 255, (12, 16)).astype(np.uint8)
    Image.fromarray(fine).save(tmp_path / "fine.png")
    Image.fromarray(coarse).save(tmp_path / "coarse.png")
    dset = kwcoco.CocoDataset()
    dset.fpath = str(tmp_path / "data.kwcoco.json")
    coarse_row = {
        "file_name": "coarse.png",
        "channels": "low",
        "width": 16,
        "height": 12,
        "warp_aux_to_img": {"scale": 2},
    }
    fine_row = {"file_name": "fine.png", "channels": "high", "width": 32, "height": 24}
    video = dset.add_video("v", width=64, height=48)
    dset.add_image(name="a", width=32, height=24, assets=[fine_row, coarse_row])
    for t, assets in enumerate(([fine_row, coarse_row], [fine_row])):
        warp = {"warp_img_to_vid": {"scale": 2}, "video_id": video, "frame_index": t}
        dset.add_image(name=f"b{t}", width=32, height=24, assets=assets, **warp)
    dset.add_category("thing")
    dset.add_annotation(2, category_id=1, bbox=[3, 4, 5, 6])
    sampler = CocoSampler(dset)
    assert sampler.load_sample({"gid": 1})["params"]["channels"] == ("high", "low")

    def expected(gid, channels, space):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dset.coco_image(gid).imdelay(channels, space=space).finalize()

    found = sampler.load_sample({"gid": 1, "slices": (slice(3, 20), slice(-2, 30))})["im"]
    np.testing.assert_array_equal(found, cut(expected(1, "high|low", "image"), (3, -2), (17, 32)))
    film = sampler.load_sample({"vidid": 1, "channels": "low|high", "space_slice": (slice(40, 50), slice(0, 9))})
    assert film["params"]["data_dims"] == (2, 48, 64)
    assert film["im"].dtype == np.float32
    np.testing.assert_array_equal(film["im"][0], cut(expected(2, "low|high", "video"), (40, 0), (10, 9)))
    assert np.isnan(film["im"][1, :8, :, 0]).all(), "a frame that lacks a channel holds nan"
    np.testing.assert_array_equal(film["im"][1, ..., 1], cut(expected(3, "high", "video"), (40, 0), (10, 9))[..., 0])
    whole = sampler.load_sample({"vidid": 1, "channels": "high"})
    assert whole["annots"]["rel_boxes"].to_xywh().data.tolist() == [[6, 8, 10, 12]]
    own = sampler.load_sample({"aid": 1, "gids": [2], "channels": "high"})
    assert own["target"]["space_slice"] == (slice(8, 20, None), slice(6, 16, None))


def test_whole_images_are_indexed_where_they_are_looked_at(pictures, bundle):
    sampler = CocoSampler(pictures)
    pixels = np.asarray(Image.open(f"{pictures.bundle_dpath}/1.png"))
    image = sampler.load_image(2)
    assert (image.shape, image.dtype, len(image), image.ndim) == ((25, 36, 3), np.uint8, 25, 3)
    for key in (np.s_[3:9, ::2], np.s_[..., 1], np.s_[-1], np.s_[5, 6, 0], np.s_[4:4]):
        np.testing.assert_array_equal(image[key], pixels[key])
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert isinstance(sampler.load_image(2, cache=False), np.ndarray)
    row, annotations = sampler.load_image_with_annots(2)
    assert row["file_name"] == "1.png"
    assert "imdata" not in pictures.imgs[2]
    assert [a["id"] for a in annotations] == sorted(pictures.index.gid_to_aids[2])
    assert sampler.load_annotations(2) == annotations
    cases = CocoSampler.coerce(bundle)
    np.testing.assert_array_equal(cases.load_image(1)[2, 3:5, :, 0], ndvol.open(bundle)["ct"].images["CT"][2, 3:5])


def test_the_wrong_picture_is_never_read(tmp_path):
    dset = make_pictures(tmp_path / "a")
    dset.imgs[1].update(width=41)
    sampler = CocoSampler(dset)
    with pytest.raises(CatalogError, match="another size"):
        sampler.load_sample({"gid": 1})
    (tmp_path / "a" / "1.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"1\.png"):
        sampler.load_sample({"gid": 2})
    (tmp_path / "a" / "2.png").unlink()
    with pytest.raises(NdvolError, match=r"2\.png"):
        sampler.load_sample({"gid": 3})
    for box in ([1, 2, 3], [1, 2, 3, -4], [1, 2, float("inf"), 4]):
        broken = make_pictures(tmp_path / "b")
        broken.anns[1]["bbox"] = box
        with pytest.raises(CatalogError, match="annotation 1 has no usable box"):
            CocoSampler(broken).load_sample({"gid": 1})
    broken.anns[1].update(bbox=[1, 2, 3, 4], segmentation={"size": [3, 3], "counts": "?"})
    with pytest.raises(CatalogError, match="segmentation of annotation 1"):
        CocoSampler(broken).load_sample({"gid": 1, "slices": (slice(0, 3), slice(0, 2))})


def test_samplers_travel_and_know_themselves(tmp_path, pictures, video, bundle):
    films, _ = video
    for data, target in ((pictures, {"gid": 2}), (films, {"vidid": 1}), (bundle, {"gid": 1})):
        sampler = CocoSampler.coerce(data)
        sampler.load_sample(target)
        copy = pickle.loads(pickle.dumps(sampler))
        np.testing.assert_array_equal(copy.load_sample(target)["im"], sampler.load_sample(target)["im"])
        assert copy.hashid == sampler.hashid
        assert CocoSampler.coerce(sampler) is sampler
    assert CocoSampler(pictures).hashid != CocoSampler(films).hashid
    assert CocoSampler(pictures, tmp_path).hashid != CocoSampler(pictures).hashid
    with pytest.raises(OptionError, match="takes no options"):
        CocoSampler.coerce(sampler, backend="npy")
    pictures.dump(pictures.fpath)
    assert CocoSampler.coerce(pictures.fpath).n_images == 3
    assert ndvol.CocoSampler is CocoSampler
    with pytest.raises(CatalogError):
        CocoSampler.coerce(tmp_path / "nothing")


def test_ndsamplers_readme_runs_with_one_changed_import(tmp_path):
    ub = pytest.importorskip("ubelt")
    image_paths = []
    for number, size in enumerate([(512, 512), (448, 328), (868, 600)]):
        image_paths.append(ub.Path(tmp_path) / f"{number}.png")
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3)).astype(np.uint8)).save(
            image_paths[-1]
        )
    import ndvol as ndsampler

    dataset = {
        "images": [{"id": i, "file_name": fpath} for i, fpath in enumerate(image_paths)],
        "annotations": [],
        "categories": [],
    }
    coco_dset = kwcoco.CocoDataset(dataset)
    workdir = ub.Path(tmp_path / "ndsampler/demo").ensuredir()
    sampler = ndsampler.CocoSampler(coco_dset, workdir=workdir)
    target = {"gid": 0, "cx": 200, "cy": 200, "width": 100, "height": 100}
    sample = sampler.load_sample(target)
    assert {"annots", "im", "params", "tr"} <= set(sample)
    assert sample["im"].shape == (100, 100, 3)
    np.testing.assert_array_equal(sample["im"], np.asarray(Image.open(image_paths[0]))[150:250, 150:250])
    assert len(sampler.hashid) == 128, "also with a path that JSON does not know"
    category_id = coco_dset.ensure_category("face")
    coco_dset.add_annotation(image_id=0, category_id=category_id, bbox=[140, 10, 180, 180])
    sample = ndsampler.CocoSampler(coco_dset).load_sample({"gid": 0, "cx": 220, "cy": 100, "width": 300, "height": 300})
    assert sorted(sample) == ["annots", "classes", "im", "kp_classes", "params", "target", "tr"]
    dets = sample["annots"]["frame_dets"][0]
    assert dets.data["boxes"].to_xywh().data.tolist() == [[70, 60, 180, 180]]
    assert (dets.data["aids"].tolist(), dets.data["cids"].tolist()) == ([1], [1])


def test_keypoints_move_along(tmp_path):
    data = make_pictures(tmp_path).dataset
    target = {"gid": 1, "slices": (slice(None), slice(4, 30)), "scale": 2, "annot_ids": [1]}
    new, old = json.loads(json.dumps(data)), json.loads(json.dumps(data))
    new["keypoint_categories"] = [{"id": 7, "name": "tip"}]
    new["annotations"][0]["keypoints"] = [{"xy": [10.0, 12.0], "keypoint_category_id": 7}]
    old["categories"][0]["keypoints"] = ["tip"]
    old["annotations"][0]["keypoints"] = [10, 12, 2]
    for rows in (new, old):
        sampler = CocoSampler(kwcoco.CocoDataset(rows, bundle_dpath=str(tmp_path)))
        sample = sampler.load_sample(target)
        assert sample["annots"]["rel_kpts"][0].xy.tolist() == [[12.0, 24.0]]
        assert list(sample["kp_classes"]) == ["tip"]


def test_json_of_a_video_without_sizes_is_enough(tmp_path):
    dset, voxels = make_video(tmp_path)
    data = json.loads(json.dumps(dset.dataset))
    for row in (*data["images"], *data["videos"]):
        row.pop("width"), row.pop("height")
    again = kwcoco.CocoDataset(data, bundle_dpath=str(tmp_path))
    np.testing.assert_array_equal(CocoSampler(again).load_sample({"vidid": 1})["im"][..., 0], voxels)
