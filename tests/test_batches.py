"""collate: the batches of torch's own, from workers, while they use their memory again."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torch]")
from torch.utils.data import DataLoader, Dataset, default_collate  # noqa: E402

from ndvol import batches  # noqa: E402
from ndvol.batches import MAX_BLOCKS, collate  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is torch's own collate")
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]


class Items(Dataset):
    """Item i is filled with i; its shape is `shape`, or one more along the first axis for odd batches of two."""

    def __init__(self, length=40, shape=(3, 40, 50), dtype=torch.float32, grows=False):
        self.length, self.shape, self.dtype, self.grows = length, shape, dtype, grows

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        first, *rest = self.shape
        shape = (first + (index // 2) % 2 if self.grows else first, *rest)
        return {
            "image": torch.full(shape, index % 128).to(self.dtype),
            "small": torch.tensor([index, -index]),
            "empty": torch.empty(0, 3),
            "nested": [{"image": torch.full((70, 80), -index, dtype=torch.int16)}, "text"],
            "name": f"case-{index}",
            "index": index,
            "share": index / 7,
        }


def loader(items, collate_fn=collate, **how):
    how = {"batch_size": 2, "num_workers": 2, **how}
    return DataLoader(items, collate_fn=collate_fn, **how)


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        return all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        return torch.equal(a, b)
    return a == b


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_batches_are_those_of_torch(dtype):
    items = Items(dtype=dtype, length=9)
    here = list(loader(items, default_collate, num_workers=0))
    assert all(map(same, loader(items, num_workers=0), here))
    # Compared one by one: the memory of each is used again.
    assert all(map(same, loader(items, multiprocessing_context="fork"), here))


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_workers_may_start_in_any_way(method):
    items = Items(length=6)
    expected = list(loader(items, default_collate, num_workers=0))
    assert all(map(same, loader(items, multiprocessing_context=method, num_workers=1), expected))


def test_memory_is_used_again_and_no_more_than_needed():
    passes = loader(Items(length=200), persistent_workers=True)
    for _ in range(2):
        for _ in passes:
            pass
    workers = {process for process, _, _ in batches._mapped if Path(f"/proc/{process}").exists()}
    known = [key for key in batches._mapped if key[0] in workers]
    # Two tensors a batch; two batches wait, one is being filled and one used.
    assert 2 * 2 <= len(known) <= 2 * 2 * 5


def test_what_is_kept_does_not_change():
    """All batches at once: more than there are blocks."""
    items = Items(length=8 * MAX_BLOCKS)
    kept = list(loader(items))
    assert all(map(same, kept, loader(items, default_collate, num_workers=0)))


def test_a_view_keeps_its_memory():
    views, arrays = [], []
    gc.freeze()  # else each collection goes through all that torch has loaded
    for batch in loader(Items(length=60)):
        views.append(batch["image"][1, 2, :3, :3])
        arrays.append(batch["nested"][0]["image"].numpy()[0, :2])
        del batch
        gc.collect()
    gc.unfreeze()
    assert [int(v[0, 0]) for v in views] == [2 * k + 1 for k in range(30)]
    assert all((v == v[0, 0]).all() for v in views)
    assert [int(a[0, 0]) for a in arrays] == [-2 * k for k in range(30)]


def test_a_change_in_place_changes_that_batch_alone():
    for k, batch in enumerate(loader(Items(length=80))):
        assert (batch["image"][0] == 2 * k).all()
        batch["image"].fill_(-1)


def test_shapes_may_change_from_batch_to_batch():
    items = Items(length=40, grows=True)
    assert all(map(same, loader(items), loader(items, default_collate, num_workers=0)))


def test_a_loader_may_be_left_early_and_gone_through_again():
    items = Items(length=40)
    passes = loader(items, persistent_workers=True)
    for _ in range(3):
        for k, batch in enumerate(passes):
            assert (batch["image"][1] == 2 * k + 1).all()
            if k == 3:
                break
    assert all(map(same, passes, loader(items, default_collate, num_workers=0)))


def computed(items):
    batch = collate(items)
    return {"half": batch["image"] / 2, "view": batch["image"][:, :1], "image": batch["image"].add_(1)}


def test_a_worker_may_compute_with_its_batch():
    for k, batch in enumerate(loader(Items(length=60), computed)):
        assert type(batch["half"]) is torch.Tensor
        assert batch["half"][0, 0, 0, 0] == k
        assert (batch["image"][0] == 2 * k + 1).all()
        assert batch["view"].shape == (2, 1, 40, 50)


def kept_back(items, known=[]):  # noqa: B006
    known.append(collate(items))
    return {"image": known[-1]["image"], "right": all((b["image"][0] == 2 * k).all() for k, b in enumerate(known))}


def test_a_worker_may_keep_a_batch():
    for batch in loader(Items(length=60), kept_back, num_workers=1):
        assert batch["right"]


def dropped(items):
    return {"sum": collate(items)["image"].sum(), "blocks": len(batches._blocks[os.getpid()])}


def test_a_batch_that_is_not_handed_over_frees_its_memory():
    seen = [int(batch["blocks"]) for batch in loader(Items(length=100), dropped)]
    assert max(seen) <= 4


def test_a_fork_does_not_free_what_its_parent_uses():
    data = iter(loader(Items(length=60)))
    batch = next(data)
    child = os.fork()
    if child == 0:
        del batch
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    rest = list(data)
    assert (batch["image"][1] == 1).all()
    assert len(rest) == 29


def test_a_view_that_a_worker_makes_is_itself():
    """`view` above shares memory with `image`, which is changed after it."""
    first = next(iter(loader(Items(length=2), computed)))
    assert (first["view"][0] == 1).all()
