"""GridDataset: what workers of any kind bring is what the sampler reads, and a stitcher takes it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torch]")

from torch.utils.data import DataLoader  # noqa: E402
from toy import Toy, catalog_of  # noqa: E402

from ndvol.grid_sampler import GridSampler  # noqa: E402
from ndvol.torch import GridDataset  # noqa: E402


def grid():
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(-900, 900, shape).astype(np.int16) for name, shape in
              (("a", (7, 9, 8)), ("b", (5, 4, 12)))}  # fmt: skip
    catalog = catalog_of({name: Toy({"CT": array, "half": array / 2}) for name, array in arrays.items()})
    return GridSampler(catalog, (4, 4, 4), overlap=0.5, halo=1, fill_value=-1024), arrays


def test_an_item_is_the_sample():
    sampler, _ = grid()
    data = GridDataset(sampler, dtype=torch.float64)
    assert len(data) == len(sampler)
    for number in (0, 5, len(data) - 1):
        item, sample = data[number], sampler[number]
        assert item["image"].dtype == torch.float64
        assert np.array_equal(item["image"].numpy(), np.stack([sample.images["CT"], sample.images["half"]]))
        assert np.array_equal(item["affine"].numpy(), sample.grid.ras_affine)
        assert item["valid"].tolist() == [list(p) for p in zip(sample.valid.start, sample.valid.stop, strict=True)]
        assert (item["case"], item["index"]) == (sample.case, number)


@pytest.mark.parametrize(("method", "workers", "cases"), [(None, 0, "ab"), ("fork", 2, "ab"), ("spawn", 1, "b")])
def test_workers_bring_what_a_stitcher_takes(method, workers, cases):
    sampler, arrays = grid()
    data = GridDataset(sampler)
    for case in cases:
        array = arrays[case]
        loader = DataLoader(
            data,
            batch_size=3,
            sampler=sampler.indices(case),
            num_workers=workers,
            multiprocessing_context=method,
        )
        out = np.zeros((2, *array.shape), np.float32)
        with sampler.stitcher(case, out) as stitcher:
            for batch in loader:
                assert set(batch["case"]) == {case}
                for index, patch in zip(batch["index"], batch["image"], strict=True):
                    stitcher.add(sampler.window_at(index), patch)
        assert np.array_equal(out, np.stack([array, array / 2]))
