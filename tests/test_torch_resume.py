"""A training run that is stopped at any batch and goes on with other workers and ranks sees the same samples."""

from __future__ import annotations

import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "sampling"))

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402
from toy import Toy, catalog_of, random_labels  # noqa: E402

from ndvol.sampler import VolumeSampler  # noqa: E402
from ndvol.sampling import Mix, Negative, Positive, Schedule, Uniform  # noqa: E402
from ndvol.torch import PatchDataset  # noqa: E402

LENGTH, BATCH, EPOCHS = 24, 2, 3


def dataset(order: str = "random") -> PatchDataset:
    rng = np.random.default_rng(0)
    shapes = {"a": (6, 7, 8), "b": (5, 9, 3)}
    toys = {
        n: Toy({"CT": rng.random(s).astype(np.float32)}, {"organs": random_labels(rng, s)}) for n, s in shapes.items()
    }
    mix = Mix({Positive(["lesion", "organ"], jitter=0.5): 2, Negative(max_overlap=0.5): 1, Uniform(): 1})
    return PatchDataset(VolumeSampler(catalog_of(toys), (4, 4, 4), strategy=mix, seed=5, length=LENGTH, order=order))


def prints(batch) -> list[tuple]:
    """Number, case and voxels of each item of a batch."""
    digests = [sha256(image.numpy().tobytes()).hexdigest() for image in batch["image"]]
    return list(zip(batch["index"].tolist(), batch["case"], digests, strict=True))


def undisturbed(order: str) -> list[Counter]:
    data = dataset(order)
    epochs = []
    for epoch in range(EPOCHS):
        data.set_epoch(epoch)
        epochs.append(Counter(p for i in range(LENGTH) for p in prints(next(iter(DataLoader([data[i]]))))))
    assert len({frozenset(e) for e in epochs}) == EPOCHS, "epochs must differ"
    return epochs


@pytest.mark.parametrize("order", ["random", "even"])
def test_stopped_and_resumed_with_other_workers_and_ranks(order):
    """Parts of the run: ranks, workers, and how many batches each rank takes before the run stops."""
    expected = undisturbed(order)
    seen = [Counter() for _ in range(EPOCHS)]
    state = Schedule(dataset(order)).state_dict()
    parts = [(1, 2, 4), (2, 1, 2), (4, 0, 1), (1, 0, 5), (2, 2, 99), (1, 1, 3), (3, 0, 2), (1, 2, 99)]
    for world_size, workers, stop in parts:
        after = []
        for rank in range(world_size):
            data = dataset(order)
            schedule = Schedule(data, rank=rank, world_size=world_size)
            schedule.load_state_dict(state)
            epoch, used, number = schedule.epoch, 0, 0
            assert schedule.repeats == 0
            loader = DataLoader(data, batch_size=BATCH, sampler=schedule, num_workers=workers)
            for number, batch in enumerate(loader, start=1):
                seen[epoch].update(prints(batch))
                used += len(batch["index"])
                if number == stop:
                    break
            # Workers have read ahead of what was used.
            after.append(schedule.state_dict(samples=used) if number == stop else schedule.state_dict())
        assert all(s == after[0] for s in after)
        state = after[0]
    assert state["epoch"] == EPOCHS
    assert seen == expected


def test_a_batch_is_its_items():
    data = dataset()
    numbers = [7, 3, 3, -1, 0]
    for item, number in zip(data.__getitems__(numbers), numbers, strict=True):
        assert item["index"] == number % LENGTH
        assert torch.equal(item["image"], data[number]["image"])
    assert [s.target for s in data.sampler.__getitems__(numbers)] == [data.sampler.target(n) for n in numbers]
    with pytest.raises(IndexError):
        data.__getitems__([0, LENGTH])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 5, 11, 12, 13, 24])
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_stateful_loader_keeps_the_state(workers, stop):
    """torchdata's loader, saved after `stop` batches of three epochs of 12 batches and loaded by a fresh one."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader():
        data = dataset()
        schedule = Schedule(data)
        return stateful.StatefulDataLoader(data, batch_size=BATCH, sampler=schedule, num_workers=workers), schedule

    expected, seen = undisturbed("random"), Counter()
    first, schedule = loader()
    taken = 0
    while taken < stop:
        for batch in first:
            seen.update(prints(batch))
            taken += 1
            if taken == stop:
                break
    saved = first.state_dict()
    second, schedule = loader()
    second.load_state_dict(saved)
    while True:
        for batch in second:
            seen.update(prints(batch))
        if schedule.epoch == EPOCHS:
            break
    # The epochs have no sample in common that would hide one taken for another.
    assert seen == sum(expected, Counter())
