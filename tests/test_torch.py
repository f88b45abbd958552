"""PatchDataset: tensors equal the sampler's arrays, whatever process makes them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torch]")

sys.path.insert(0, str(Path(__file__).parent / "sampling"))

from torch.utils.data import DataLoader, default_collate  # noqa: E402
from toy import Toy, catalog_of, random_labels  # noqa: E402

from ndvol.errors import SamplingError  # noqa: E402
from ndvol.formats.writing import write_nifti  # noqa: E402
from ndvol.geometry import Grid  # noqa: E402
from ndvol.importing import ImportOptions, import_tree  # noqa: E402
from ndvol.sampler import VolumeSampler  # noqa: E402
from ndvol.sampling import Mix, Negative, Positive, Reading, Uniform  # noqa: E402
from ndvol.torch import PatchDataset  # noqa: E402

MIX = Mix({Positive("lesion"): 1, Negative(max_overlap=0.5): 1, Uniform(): 1})


def toy(shape: tuple[int, ...], seed: int = 0, *, labelled: bool = True) -> Toy:
    rng = np.random.default_rng(seed)
    images = {"CT": rng.integers(-900, 900, shape).astype(np.int16), "PET": rng.random(shape).astype(np.float32)}
    return Toy(images, {n: random_labels(rng, shape) for n in ("organs", "lesions")} if labelled else {})


def dataset(length: int = 8, **options) -> PatchDataset:
    catalog = catalog_of({"a": toy((6, 7, 8)), "b": toy((5, 9, 3), 1)})
    return PatchDataset(VolumeSampler(catalog, (4, 4, 4), strategy=MIX, seed=5, length=length, **options))


def assert_same(item, other):
    assert item.keys() == other.keys()
    for key, value in item.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[key].dtype
            assert torch.equal(value, other[key]), key
        else:
            assert value == other[key], key


@pytest.mark.parametrize("shape", [(9, 8), (6, 7, 8)])
def test_an_item_is_the_sample(shape):
    n = len(shape)
    sampler = VolumeSampler(catalog_of({"a": toy(shape)}), (4,) * n, strategy=MIX, length=12)
    data = PatchDataset(sampler)
    for i in range(len(data)):
        item, sample = data[i], sampler[i]
        images = np.stack([sample.images["CT"].astype(np.float32), sample.images["PET"]])
        labels = np.stack([sample.labels["organs"], sample.labels["lesions"]])
        assert item["image"].dtype == torch.float32
        assert np.array_equal(item["image"].numpy(), images)
        assert item["label"].dtype == torch.int64
        assert np.array_equal(item["label"].numpy(), labels)
        assert item["affine"].dtype == torch.float64
        assert np.array_equal(item["affine"].numpy(), sample.grid.ras_affine)
        assert item["affine"].shape == (n + 1, n + 1)
        assert item["valid"].dtype == torch.int64
        assert item["valid"].tolist() == [list(p) for p in zip(sample.valid.start, sample.valid.stop, strict=True)]
        target = sample.target
        assert (item["case"], item["role"], item["category"]) == ("a", target.role, target.category or "")
        assert item["index"] == i
    assert data[-1]["index"] == len(data) - 1
    with pytest.raises(IndexError):
        data[len(data)]


def test_time_and_channels_become_channels():
    rng = np.random.default_rng(0)
    cine, still = rng.random((2, 3, 4, 5, 6)).astype(np.float32), rng.random((4, 5, 6)).astype(np.float32)
    sampler = VolumeSampler(catalog_of({"a": Toy({"cine": cine, "still": still}, axes="tczyx")}), (4, 5, 6))
    item = PatchDataset(sampler)[0]
    assert np.array_equal(item["image"].numpy(), np.concatenate([cine.reshape(6, 4, 5, 6), still[None]]))
    assert item["valid"].shape == (5, 2)
    assert item["affine"].shape == (4, 4)


def test_labels_over_time_become_channels():
    rng = np.random.default_rng(0)
    moving, fixed = random_labels(rng, (2, 3, 4, 5)), random_labels(rng, (3, 4, 5))
    cine = Toy({"cine": rng.random((2, 3, 4, 5))}, {"moving": moving, "fixed": fixed})
    item = PatchDataset(VolumeSampler(catalog_of({"a": cine}), (3, 4, 5)))[0]
    assert np.array_equal(item["label"].numpy(), np.concatenate([moving, fixed[None]]))


@pytest.mark.parametrize("stored", ["u1", "u2", "u4", "i2", "f4", "f8", "?"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32])
def test_every_type_converts(stored, dtype):
    array = np.array([[0, 1], [1, 100]]).astype(stored)
    data = PatchDataset(VolumeSampler(catalog_of({"a": Toy({"CT": array})}), (2, 2)), dtype=dtype)
    assert data[0]["image"].dtype == dtype
    assert data[0]["image"][0].double().tolist() == array.astype(float).tolist()
    assert "label" not in data[0]


def test_a_case_without_the_labels_is_refused_not_zeroed():
    catalog = catalog_of({"a": toy((6, 6)), "b": toy((6, 6), 1, labelled=False)})
    data = PatchDataset(VolumeSampler(catalog, (6, 6), length=20))
    with pytest.raises(SamplingError, match=r"case 'b' has no label volume 'organs', 'lesions'.*labels=\(\)"):
        [data[i] for i in range(20)]
    unlabelled = PatchDataset(VolumeSampler(catalog, (6, 6), length=20, reading=Reading(labels=())))
    assert {unlabelled[i]["case"] for i in range(20)} == {"a", "b"}
    labelled = Mix({Positive(): 1, Negative(max_overlap=1.0): 1})
    restricted = PatchDataset(VolumeSampler(catalog, (6, 6), length=20, strategy=labelled))
    assert {restricted[i]["case"] for i in range(20)} == {"a"}


def test_items_collate():
    data = dataset()
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert_same(batch, default_collate([data[i] for i in range(4)]))
    assert batch["image"].shape == (4, 2, 4, 4, 4)


@pytest.mark.parametrize(
    ("method", "workers"), [("fork", 2), ("spawn", 1), pytest.param("forkserver", 2, marks=pytest.mark.slow)]
)
def test_workers_give_the_same_items(method, workers):
    """Persistent workers also follow set_epoch, though they hold copies of the sampler made before it."""
    data = dataset()
    loader = DataLoader(
        data, batch_size=None, num_workers=workers, multiprocessing_context=method, persistent_workers=True
    )
    seen = []
    for epoch in (0, 3):
        data.set_epoch(epoch)
        expected = [data[i] for i in range(len(data))]
        for item, other in zip(loader, expected, strict=True):
            assert_same(item, other)
        seen.append([e["image"] for e in expected])
    assert any(not torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_an_epoch_set_on_the_sampler_counts():
    data = dataset()
    first = data[0]["image"]
    data.sampler.set_epoch(1)
    assert not torch.equal(data[0]["image"], first)
    data.set_epoch(0)
    assert torch.equal(data[0]["image"], first)


def test_volumes_on_several_grids_do_not_become_one_tensor():
    rng = np.random.default_rng(0)
    two = {"CT": rng.random((6, 7, 8)), "PET": rng.random((3, 4, 4))}
    data = PatchDataset(VolumeSampler(catalog_of({"a": Toy(two)}), (2, 2, 2)))
    with pytest.raises(SamplingError, match=r"on several grids.*images/PET apart from the first image.*not resampled"):
        data[0]
    alone = PatchDataset(VolumeSampler(catalog_of({"a": Toy(two)}), (2, 2, 2), reading=Reading(images=["PET"])))
    assert alone[0]["image"].shape == (1, 2, 2, 2)


def test_labels_in_a_small_type_are_the_same_or_refused(tmp_path):
    labels = np.zeros((8, 8, 8), np.uint16)
    labels[2:4, 2:4, 2:4] = 300
    for kind, array in (("images", np.zeros(labels.shape, np.int16)), ("labels", labels)):
        write_nifti(tmp_path / "raw" / kind / "a.nii", array, Grid.regular("zyx", labels.shape, spacing=(1, 1, 1)))
    options = ImportOptions(categories=({"name": "organ", "value": 300},))
    catalog = import_tree(tmp_path / "raw", tmp_path / "bundle", options=options)
    sampler = VolumeSampler(catalog, (4, 4, 4), strategy=Positive(), length=3)
    plain = PatchDataset(sampler)[0]["label"]
    small = PatchDataset(sampler, label_dtype=torch.int16)[0]["label"]
    assert (plain.dtype, small.dtype, int(small.max())) == (torch.int64, torch.int16, 300)
    assert torch.equal(small.long(), plain)
    with pytest.raises(SamplingError, match=r"label volume 'labels' of case 'a' does not fit torch.uint8; got .* 300"):
        PatchDataset(sampler, label_dtype=torch.uint8)[0]
