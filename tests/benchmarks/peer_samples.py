"""Class-balanced 96³ samples through a torch DataLoader: ndvol against the loaders of its peers."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_files import NAMES, PATCH, Cohort, installed
from torch.utils.data import DataLoader, Dataset

import ndvol

BATCH = 2


def sample_rows(cohort: Cohort, samples: int) -> Iterator[dict[str, Any]]:
    """Milliseconds per sample and times ndvol, with 0 and 2 workers."""
    makers: dict[str, Callable[[int, int], DataLoader]] = {
        "ndvol": lambda n, w: ndvol_loader(cohort, n, w),
        "ndvol, and each window's objects": lambda n, w: objects_loader(cohort, n, w),
    }
    if (cohort.folder / "medh5").is_dir():
        makers["medh5 PatchDataset"] = lambda n, w: medh5_loader(cohort, n, w)
    if (cohort.folder / "nnunet").is_dir():
        makers["nnU-Net (class locations, Blosc2)"] = lambda n, w: nnunet_loader(cohort, n, w)
    few = max(8, samples // 12)
    if installed("torchio"):
        makers["TorchIO Queue"] = lambda n, w: torchio_loader(cohort, few, w)
    if installed("monai"):
        makers["MONAI RandCropByLabelClassesd"] = lambda n, w: monai_loader(cohort, few, w, cached=False)
        makers["MONAI the same, cached"] = lambda n, w: monai_loader(cohort, n, w, cached=True)
    if installed("ndsampler"):
        makers["ndsampler, slice videos"] = lambda n, w: ndsampler_loader(cohort, few, w)
    marks = {"medh5 PatchDataset": "≥ 5", "nnU-Net (class locations, Blosc2)": "≥ 2.5", "TorchIO Queue": "≥ 100"}
    marks |= {
        "MONAI RandCropByLabelClassesd": "≥ 300",
        "MONAI the same, cached": "≥ 30",
        "ndsampler, slice videos": "≥ 100",
    }
    own: dict[int, float] = {}
    for workers in (0, 2):
        for name, make in makers.items():
            ms = per_sample(make(samples, workers))
            own.setdefault(workers, ms)
            yield {
                "what": f"96³ samples, {workers} workers: {name}",
                "value": f"{ms:.1f} ms, {ms / own[workers]:.1f} × ndvol",
                "mark": marks.get(name, ""),
            }
    yield from worker_rows(cohort, samples)


def worker_rows(cohort: Cohort, samples: int, passes: int = 7) -> Iterator[dict[str, Any]]:
    """How many times the samples 2 workers deliver: the median of passes that take turns with passes without."""
    for batch in (BATCH, 2 * BATCH):
        alone, shared = (ndvol_loader(cohort, 2 * samples, workers, batch) for workers in (0, 2))
        ratios = [per_sample(alone) / per_sample(shared) for _ in range(passes)]
        yield {
            "what": f"ndvol, 2 workers against none, batches of {batch}",
            "value": f"{statistics.median(ratios):.2f} × the samples ({min(ratios):.2f} … {max(ratios):.2f})",
            "mark": "≥ 1.8",
        }


def per_sample(loader: DataLoader) -> float:
    """Milliseconds per sample of the second pass; the first one starts workers and fills caches."""
    for _ in range(2):
        begin, count = time.perf_counter(), 0
        for batch in loader:
            count += len(batch["image"] if "image" in batch else next(iter(batch["images"].values())))
    return 1e3 * (time.perf_counter() - begin) / count


def loader_of(data: Dataset, workers: int, batch: int = BATCH, **options: Any) -> DataLoader:
    return DataLoader(data, batch, num_workers=workers, persistent_workers=workers > 0, **options)


def ndvol_loader(cohort: Cohort, samples: int, workers: int, batch: int = BATCH) -> DataLoader:
    strategy = ndvol.Positive(dict.fromkeys(NAMES.values(), 1.0))
    sampler = ndvol.VolumeSampler(ndvol.open(cohort.bundle), PATCH, strategy=strategy, length=samples)
    data = ndvol.torch.PatchDataset(sampler, label_dtype=torch.int16)
    return loader_of(data, workers, batch, collate_fn=ndvol.torch.collate)


class SamplesWithObjects(Dataset):
    """Samples of a `VolumeSampler` with all their annotations, which no peer's items have."""

    def __init__(self, sampler: ndvol.VolumeSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.sampler[index]
        [image], [label] = sample.images.values(), sample.labels.values()
        tensors = {"image": torch.from_numpy(image.astype(np.float32)), "label": torch.from_numpy(label)}
        return tensors | {"objects": sample.annotations}


def with_objects(items: list[dict[str, Any]]) -> dict[str, Any]:
    objects = [item.pop("objects") for item in items]
    return {**ndvol.torch.collate(items), "objects": objects}


def objects_loader(cohort: Cohort, samples: int, workers: int) -> DataLoader:
    data = ndvol_loader(cohort, samples, workers).dataset
    return loader_of(SamplesWithObjects(data.sampler), workers, collate_fn=with_objects)


def medh5_loader(cohort: Cohort, samples: int, workers: int) -> DataLoader:
    from medh5.sampling import PatchSampler
    from medh5.torch import PatchDataset

    paths = sorted((cohort.folder / "medh5").glob("*.medh5"))
    data = PatchDataset(
        paths,
        PatchSampler(PATCH, strategy="foreground"),
        samples_per_volume=samples // len(paths),
        annotations={"seg": ()},
        label_format="labelmap",
    )
    return loader_of(data, workers, shuffle=True)


class NnunetSamples(Dataset):
    """What nnU-Net's `nnUNetDataLoader` does for a sample: open a case, take a location of a class, crop and pad."""

    def __init__(self, folder: Path, samples: int) -> None:
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

        self.data, self.samples = nnUNetDatasetBlosc2(str(folder)), samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

        rng = np.random.default_rng(index)
        data, seg, _, properties = self.data.load_case(self.data.identifiers[rng.integers(len(self.data.identifiers))])
        where = properties["class_locations"]
        voxel = where[list(where)[rng.integers(len(where))]]
        voxel = voxel[rng.integers(len(voxel))][1:]
        start = [max(0, min(int(v) - p // 2, n - p)) for v, p, n in zip(voxel, PATCH, data.shape[1:], strict=True)]
        box = [[a, a + p] for a, p in zip(start, PATCH, strict=True)]
        image, label = crop_and_pad_nd(data, box, 0), crop_and_pad_nd(seg, box, -1)
        return {"image": torch.from_numpy(image), "label": torch.from_numpy(label.astype(np.int16))}


def nnunet_loader(cohort: Cohort, samples: int, workers: int) -> DataLoader:
    return loader_of(NnunetSamples(cohort.folder / "nnunet", samples), workers)


def files(cohort: Cohort) -> list[dict[str, str]]:
    return [
        {"image": f"{cohort.raw}/images/{n}.nii.gz", "label": f"{cohort.raw}/labels/{n}.nii.gz"} for n in cohort.names
    ]


def torchio_loader(cohort: Cohort, samples: int, workers: int) -> DataLoader:
    import torchio

    subjects = [
        torchio.Subject(image=torchio.ScalarImage(f["image"]), label=torchio.LabelMap(f["label"]))
        for f in files(cohort)
    ]
    per_volume = max(1, samples // len(subjects))
    queue = torchio.Queue(
        torchio.SubjectsDataset(subjects),
        max_length=2 * per_volume,
        samples_per_volume=per_volume,
        sampler=torchio.data.LabelSampler(PATCH[::-1], label_name="label"),
        num_workers=workers,
    )
    return DataLoader(queue, BATCH, num_workers=0, collate_fn=lambda s: {"image": [x["image"].data for x in s]})


def monai_loader(cohort: Cohort, samples: int, workers: int, *, cached: bool) -> DataLoader:
    from monai.data import CacheDataset, list_data_collate
    from monai.data import Dataset as Plain
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandCropByLabelClassesd

    keys = ["image", "label"]
    transform = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            RandCropByLabelClassesd(keys, "label", PATCH[::-1], [0, *[1] * len(NAMES)], len(NAMES) + 1, num_samples=4),
        ]
    )
    rows = files(cohort) * max(1, samples // (4 * len(cohort.names)))
    if cached:
        data: Dataset = Repeated(CacheDataset(files(cohort), transform, progress=False), len(rows))
    else:
        data = Plain(rows, transform)
    return loader_of(data, workers, collate_fn=list_data_collate)


class Repeated(Dataset):
    """An epoch that visits each case several times."""

    def __init__(self, data: Dataset, length: int) -> None:
        self.data, self.length = data, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.data[index % len(self.data)]  # type: ignore[arg-type]


class NdsamplerSamples(Dataset):
    """Windows about annotations of the slice export, each slice a frame of a video, by ndsampler's `load_sample`."""

    def __init__(self, cohort: Cohort, samples: int) -> None:
        import kwcoco
        import ndsampler

        # It warns at every sample of what its next release will do.
        warnings.simplefilter("ignore")
        folder = cohort.folder / "slices"
        path = folder / "data.kwcoco.json"
        if not path.exists():
            ndvol.export_slices(ndvol.open(cohort.bundle), folder)
        dset = kwcoco.CocoDataset(str(path))
        self.samples, self.sampler = samples, ndsampler.CocoSampler(dset)
        self.frames = {video: list(dset.index.vidid_to_gids[video]) for video in dset.index.videos}
        self.objects: dict[int, list[int]] = {}
        for number, row in dset.anns.items():
            self.objects.setdefault(row["category_id"], []).append(number)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(index)
        own = self.objects[sorted(self.objects)[rng.integers(len(self.objects))]]
        dset = self.sampler.dset
        annotation = dset.anns[own[rng.integers(len(own))]]
        image = dset.imgs[annotation["image_id"]]
        frames = self.frames[image["video_id"]]
        x, y, width, height = annotation["bbox"]
        centre = frames.index(image["id"]), int(y + height / 2), int(x + width / 2)
        shape = len(frames), image["height"], image["width"]
        start = [max(0, min(c - p // 2, n - p)) for c, p, n in zip(centre, PATCH, shape, strict=True)]
        place = [slice(a, a + p) for a, p in zip(start, PATCH, strict=True)]
        target = {"vidid": image["video_id"], "gids": frames[place[0]], "space_slice": tuple(place[1:])}
        return {"image": torch.from_numpy(np.ascontiguousarray(self.sampler.load_sample(target)["im"]))}


def ndsampler_loader(cohort: Cohort, samples: int, workers: int) -> DataLoader:
    return loader_of(NdsamplerSamples(cohort, samples), workers)
