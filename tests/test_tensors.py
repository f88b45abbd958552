"""Batches that are read into one tensor: the values of torch's own collation, without its copies."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torch]")

sys.path.insert(0, str(Path(__file__).parent / "sampling"))

from torch.utils.data import DataLoader, default_collate  # noqa: E402
from toy import Toy, catalog_of, random_labels  # noqa: E402

from ndvol.batches import MAX_BLOCKS, collate, rows  # noqa: E402
from ndvol.errors import WindowError  # noqa: E402
from ndvol.grid_sampler import GridSampler  # noqa: E402
from ndvol.sampler import VolumeSampler  # noqa: E402
from ndvol.sampling import Reading  # noqa: E402
from ndvol.torch import GridDataset, PatchDataset  # noqa: E402


def toy(seed, shape=(2, 9, 20, 21), image="i2", label="u1"):
    rng = np.random.default_rng(seed)
    cine, still = rng.integers(0, 200, shape).astype(image), rng.random(shape[1:]).astype("f4")
    labels = {"moving": random_labels(rng, shape).astype(label), "fixed": random_labels(rng, shape[1:]).astype("u1")}
    return Toy({"cine": cine, "still": still}, labels)


def dataset(*toys, length=40, reading=None, **types):
    catalog = catalog_of({f"case-{k}": toy for k, toy in enumerate(toys)})
    sampler = VolumeSampler(catalog, (2, 8, 16, 16), seed=3, length=length, reading=reading)
    return PatchDataset(sampler, **types)


def expected(data, indices):
    """The two tensors of a batch, from the samples one by one."""
    samples = [data.sampler[i] for i in indices]
    both = [(s.images["cine"], s.images["still"][None]) for s in samples]
    image = np.stack([np.concatenate([patch.astype("f8") for patch in patches]) for patches in both])
    label = np.stack([np.concatenate([s.labels["moving"], s.labels["fixed"][None]]) for s in samples])
    return torch.from_numpy(image).to(data.dtype), torch.from_numpy(label.astype("i8")).to(data.label_dtype)


@pytest.mark.parametrize("image", ["u1", "i2", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_batch_holds_the_samples_in_any_type(image, dtype):
    data = dataset(toy(0, image=image), toy(1, image=image), dtype=dtype)
    items = data.__getitems__([5, 0, 11, 5])
    batch = collate(items)
    want, label = expected(data, [5, 0, 11, 5])
    assert batch["image"].dtype == dtype
    assert torch.equal(batch["image"], want)
    assert torch.equal(batch["label"], label)


@pytest.mark.parametrize("stored", ["u1", "u2", "i4"])
@pytest.mark.parametrize("label_dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_labels_in_any_type(stored, label_dtype):
    data = dataset(toy(0, label=stored), label_dtype=label_dtype)
    batch = collate(data.__getitems__([0, 1]))
    assert batch["label"].dtype == label_dtype
    assert torch.equal(batch["label"], expected(data, [0, 1])[1])


def test_items_that_were_read_together_are_handed_on_uncopied():
    items = dataset(toy(0)).__getitems__([0, 1, 2])
    batch = collate(items)
    for key in ("image", "label"):
        assert [item[key].data_ptr() for item in items] == [row.data_ptr() for row in batch[key]]
        assert batch[key].is_contiguous()


def test_other_items_than_all_of_one_reading_are_copied():
    data = dataset(toy(0))
    for change in (
        lambda items: items[::-1],
        lambda items: items[:2],
        lambda items: [*items[:2], data[7]],
        lambda items: [{**item, "image": item["image"] + 1} for item in items],
        lambda items: [{**item, "image": item["image"].flip(-1)} for item in items],
        lambda items: [{**item, "image": item["image"].transpose(-1, -2)} for item in items],
        lambda items: [{**item, "image": item["image"][:1]} for item in items],
    ):
        items = change(data.__getitems__([0, 1, 2]))
        batch, want = collate(items), default_collate(items)
        assert torch.equal(batch["image"], want["image"])
        assert torch.equal(batch["label"], want["label"])
        assert batch["image"].data_ptr() not in [item["image"].data_ptr() for item in items]


def test_a_second_collation_of_the_same_items_is_a_copy():
    items = dataset(toy(0)).__getitems__([0, 1])
    one, other = collate(items), collate(items)
    assert torch.equal(one["image"], other["image"])
    one["image"].fill_(-1)
    assert not (other["image"] == -1).any()


def test_tensors_of_others_are_never_shared():
    mine = torch.arange(5000.0)
    batch = collate([mine])
    batch.fill_(0)
    assert mine.sum() > 0


def test_rows_have_the_shape_and_type():
    for dtype in (torch.float32, torch.bool, torch.complex64, torch.bfloat16, torch.uint8):
        made = rows(3, (2, 5), dtype)
        assert made.shape == (3, 2, 5)
        assert made.dtype == dtype
    assert rows(2, (0, 5), torch.float32).shape == (2, 0, 5)


def test_a_fill_value_must_fit_the_volume_though_the_tensor_would_hold_it():
    data = dataset(toy(0), reading=Reading(fill_value=1e9))
    with pytest.raises(WindowError, match="fill_value does not fit the type int16"):
        data.__getitems__([0, 1])


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_a_fill_value_that_is_not_used_may_be_any(mode):
    data = dataset(toy(0), reading=Reading(fill_value=1e9, pad_mode=mode))
    assert len(data.__getitems__([0, 1])) == 2
    assert len(data.sampler.__getitems__([0, 1])) == 2


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_what_lies_outside_is_read_likewise(mode):
    reading = Reading(fill_value=0 if mode != "constant" else 7, pad_mode=mode, pad=(2, 3, 4))
    catalog = catalog_of({"a": toy(0)})
    sampler = VolumeSampler(catalog, (8, 16, 16), seed=3, length=6, reading=reading)
    data = PatchDataset(sampler)
    batch = collate(data.__getitems__([0, 1, 2]))
    want, label = expected(data, [0, 1, 2])
    assert torch.equal(batch["image"], want)
    assert torch.equal(batch["label"], label)


def test_no_items_are_no_items():
    assert dataset(toy(0)).__getitems__([]) == []


@pytest.mark.parametrize("collate_fn", [collate, default_collate, list])
def test_workers_hand_on_what_they_read(collate_fn):
    """More batches than a worker has blocks, all kept; then some of them let go, and gone through again."""
    data = dataset(toy(0), toy(1), length=3 * MAX_BLOCKS)
    loader = DataLoader(data, 2, num_workers=1, collate_fn=collate_fn, persistent_workers=True)
    kept = list(loader)
    for batch in loader:
        del batch
    assert len(kept) == len(data) // 2
    for number, batch in enumerate(kept):
        image, label = expected(data, [2 * number, 2 * number + 1])
        found = batch if isinstance(batch, dict) else default_collate(batch)
        assert torch.equal(found["image"], image)
        assert torch.equal(found["label"], label)


def both_ways(items):
    return {"batch": collate(items), "again": collate(items), "items": [item["image"] for item in items]}


def test_a_worker_may_send_the_items_besides_their_batch():
    data = dataset(toy(0), length=24)
    for _ in range(2):
        for number, sent in enumerate(DataLoader(data, 2, num_workers=1, collate_fn=both_ways)):
            image, _ = expected(data, [2 * number, 2 * number + 1])
            for found in (sent["batch"]["image"], sent["again"]["image"], torch.stack(sent["items"])):
                assert torch.equal(found, image)


def test_a_grid_is_read_likewise():
    grid = GridSampler(catalog_of({"a": toy(0), "b": toy(1)}), (2, 8, 16, 16), overlap=0.5, halo=1)
    data = GridDataset(grid)
    items = data.__getitems__(range(len(grid)))
    batch = collate(items)
    assert batch["image"].data_ptr() == items[0]["image"].data_ptr()
    for number in range(len(grid)):
        assert np.array_equal(batch["image"][number, :2].numpy(), grid[number].images["cine"].astype("f4"))
        assert np.array_equal(batch["image"][number, 2].numpy(), grid[number].images["still"])
