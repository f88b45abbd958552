"""Pictures and videos to sample from, small enough to enumerate; every voxel is known from its seed."""

from __future__ import annotations

import kwcoco
import numpy as np
from PIL import Image

from ndvol.formats.rle import rle_of_mask


def make_pictures(folder, shapes=((30, 40), (25, 36, 3), (20, 20)), seed=0):
    """A data set of PNG pictures with random boxes, polygons and masks; every voxel is known from its seed."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    dset = kwcoco.CocoDataset()
    dset.fpath = str(folder / "data.kwcoco.json")
    for name in ("thing", "other", "background"):
        dset.add_category(name)
    for number, shape in enumerate(shapes):
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        gid = dset.add_image(file_name=f"{number}.png", width=shape[1], height=shape[0])
        for k in range(5):
            x, y = (int(rng.integers(-2, n - 4)) for n in (shape[1], shape[0]))
            box = [x, y, int(rng.integers(2, 9)), int(rng.integers(2, 9))]
            extra = {}
            if k == 1:
                mask = np.zeros(shape[:2], bool)
                mask[max(0, y) : y + box[3], max(0, x) : x + box[2]] = rng.random() < 2
                mask &= rng.random(shape[:2]) < 0.5
                extra = {"segmentation": rle_of_mask(mask, (0, 0), mask.shape)} if mask.any() else {}
            dset.add_annotation(gid, category_id=1 + k % 2, bbox=box, **extra)
    return dset


def make_video(folder, frames=5, shape=(18, 23), seed=1):
    """A video of grey 16-bit pictures with one object that moves; returns the data set and its voxels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    voxels = rng.integers(0, 2**16, (frames, *shape)).astype(np.uint16)
    dset = kwcoco.CocoDataset()
    dset.fpath = str(folder / "data.kwcoco.json")
    category = dset.add_category("thing")
    track = dset.add_track("mover")
    video = dset.add_video("film", width=shape[1], height=shape[0])
    for t in range(frames):
        Image.fromarray(voxels[t]).save(folder / f"{t}.png")
        gid = dset.add_image(
            file_name=f"{t}.png", width=shape[1], height=shape[0], video_id=video, frame_index=t, channels="gray"
        )
        dset.add_annotation(gid, category_id=category, bbox=[2 * t, 3 * t, 4, 5], track_id=track)
    return dset, voxels
