"""What a sampler says of its draws, and its even order."""

from __future__ import annotations

import numpy as np
import pytest
from toy import Toy, catalog_of, random_labels

from ndvol.errors import OptionError
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Mix, Negative, Positive, Sliding, Uniform
from ndvol.sampling.report import DrawReport
from ndvol.volumes import Volume

MIX = Mix({Positive("lesion", jitter=0.5): 1, Negative(max_overlap=0.2): 1, Uniform(): 1})


def pair():
    rng = np.random.default_rng(0)
    shapes = {"a": (9, 11), "b": (5, 20)}
    return catalog_of({n: Toy({"CT": np.zeros(s)}, {"organs": random_labels(rng, s, 0.2)}) for n, s in shapes.items()})


class TestReport:
    def test_counts_the_draws_of_this_epoch_and_the_next(self):
        sampler = VolumeSampler(pair(), (3, 4), strategy=MIX, seed=7, length=40)
        sampler.set_epoch(3)
        expected = [sampler.target(i) for i in range(40)]
        assert sampler.report() == DrawReport.of(expected, ["a", "b"])
        sampler.set_epoch(4)
        expected += [sampler.target(i) for i in range(20)]
        sampler.set_epoch(3)
        assert sampler.report(60) == DrawReport.of(expected, ["a", "b"])
        with pytest.raises(OptionError, match="draws must be a whole number"):
            sampler.report(0)

    def test_reads_no_image(self):
        catalog = pair()
        sampler = VolumeSampler(catalog, (3, 4), strategy=MIX, length=30)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Volume, "read", lambda *_, **__: pytest.fail("an image was read"))
            assert sampler.report().draws == 30

    def test_an_even_report_has_the_exact_shares(self):
        sampler = VolumeSampler(pair(), (3, 4), strategy=MIX, length=30, order="even")
        counts = {share.name: share.count for share in sampler.report().roles}
        assert counts == {"positive": 10, "negative": 10, "any": 10}

    def test_even_sliding_windows_come_in_another_order(self):
        plain = VolumeSampler(pair(), (3, 4), strategy=Sliding())
        even = VolumeSampler(pair(), (3, 4), strategy=Sliding(), order="even")
        targets = [even.target(i) for i in range(len(even))]
        assert targets != [plain.target(i) for i in range(len(plain))]
        assert set(targets) == {plain.target(i) for i in range(len(plain))}
        assert len(set(targets)) == len(even)
        with pytest.raises(OptionError, match="no such order"):
            VolumeSampler(pair(), (3, 4), order="shuffled")
