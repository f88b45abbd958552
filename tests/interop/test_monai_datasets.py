"""MONAI's transforms, loaders and caches take our items and our case files as they take its own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torch]")
monai = pytest.importorskip("monai", reason="monai is not installed: pip install ndvol[monai]")

sys.path.insert(0, str(Path(__file__).parent))

from cases import catalog_of, write_case  # noqa: E402
from monai.data import CacheDataset, Dataset, MetaTensor, PersistentDataset, ThreadDataLoader  # noqa: E402
from monai.data.utils import pickle_hashing  # noqa: E402
from monai.transforms import (  # noqa: E402
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    RandCropByPosNegLabeld,
)

import ndvol  # noqa: E402
from ndvol.monai import CaseReader, to_metatensors  # noqa: E402
from ndvol.store import open_case  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    return [write_case(folder, "a", (9, 14, 17), 0), write_case(folder, "b", (7, 16, 13), 1)]


@pytest.fixture
def patches(paths):
    return ndvol.torch.PatchDataset(ndvol.VolumeSampler(catalog_of(paths), (6, 8, 9), seed=3, length=4))


def same(item, raw):
    """An item of MONAI, maybe out of a batch, is the one of ndvol at its own place."""
    return all(
        isinstance(item[key], MetaTensor)
        and torch.equal(item[key].as_tensor(), raw[key])
        and torch.equal(item[key].affine, raw["affine"])
        and item[key].meta["filename_or_obj"] == raw["case"]
        for key in ("image", "label")
    )


@pytest.mark.parametrize("collate", [None, ndvol.torch.collate, monai.data.list_data_collate])
@pytest.mark.parametrize("method", [None, "fork"])
def test_any_collation_keeps_the_affine_of_each_patch(patches, collate, method):
    check_batches(patches, collate, method)


def test_a_worker_that_starts_anew_keeps_the_affine_of_each_patch(patches):
    """Nothing in it has used MONAI's loader, which would teach torch's own collation about MetaTensors."""
    check_batches(patches, ndvol.torch.collate, "spawn")


def check_batches(patches, collate, method):
    loader = torch.utils.data.DataLoader(
        Dataset(patches, to_metatensors),
        batch_size=2,
        collate_fn=collate,
        num_workers=0 if method is None else 1,
        multiprocessing_context=method,
    )
    items = [item for batch in loader for item in monai.data.decollate_batch(batch)]
    assert all(same(item, patches[i]) for i, item in enumerate(items))
    assert len({tuple(item["image"].affine[:3, 3].tolist()) for item in items}) == len(items) == 4


def test_items_are_like_files_that_monai_has_loaded(patches, paths):
    item = to_metatensors(patches[0])
    loaded = LoadImaged("image", reader=CaseReader("CT"))({"image": paths[0]})
    assert item["image"].meta.keys() == loaded["image"].meta.keys()
    assert EnsureChannelFirstd(["image", "label"])(item)["image"].shape == (2, 6, 8, 9)
    # The only affine is one that transforms keep true.
    assert "affine" not in item
    turn = Orientationd(["image", "label"], "RAS", labels=None)
    turned = turn(item)
    assert turned["image"].shape[1:] != item["image"].shape[1:]
    assert same(Invertd(["image", "label"], turn)(turned), patches[0])
    crops = RandCropByPosNegLabeld(["image", "label"], "label", (4, 4, 4), num_samples=3)(item)
    assert [crop["label"].dtype for crop in crops] == [torch.int64] * 3


def test_metadata_are_not_shared_with_the_item(patches):
    raw = patches[0]
    before = raw["affine"].clone()
    item = to_metatensors(raw)
    item["image"].affine[0, 3] += 1
    assert torch.equal(item["label"].affine, before)
    assert torch.equal(raw["affine"], before)


def test_windows_in_a_cache_and_by_threads(patches):
    cached = CacheDataset(patches, to_metatensors, progress=False, num_workers=2)
    assert all(same(cached[i], patches[i]) for i in range(4))
    threads = ThreadDataLoader(Dataset(patches, to_metatensors), batch_size=1, num_workers=2, use_thread_workers=True)
    assert all(same(monai.data.decollate_batch(batch)[0], patches[i]) for i, batch in enumerate(threads))


def test_cases_in_a_persistent_cache(paths, tmp_path):
    """It is found again by what is read: another volume of the same file is another entry."""
    files = [{"image": str(path), "label": str(path)} for path in paths]

    def read(name):
        load = Compose(
            [
                LoadImaged("image", reader=CaseReader(name)),
                LoadImaged("label", reader=CaseReader(labels="organs"), dtype=np.uint8),
            ]
        )
        kept = {"cache_dir": tmp_path / "cache", "track_meta": True, "weights_only": False}
        data = PersistentDataset(files, load, hash_transform=pickle_hashing, **kept)
        for path, item in zip(paths, data, strict=True):
            case = open_case(path)
            assert np.array_equal(item["image"][0].numpy(), np.asarray(case.images[name]))
            assert np.array_equal(item["label"][0].numpy(), np.asarray(case.labels["organs"]))
            assert np.array_equal(item["image"].affine, case.images[name].grid.ras_affine)
        return len(list((tmp_path / "cache").iterdir()))

    assert [read("CT"), read("CT"), read("PET")] == [2, 2, 4]
