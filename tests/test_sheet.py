"""The picture of a sample."""

from __future__ import annotations

import numpy as np

from ndvol.catalog import CaseRecord, Catalog, Objects
from ndvol.categories import CategoryTree
from ndvol.geometry import Grid, Window
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Target
from ndvol.sheet import draw_patch
from ndvol.volumes import ArraySource, Case, Volume


def test_of_a_window_that_leaves_the_volume_a_plane_inside_is_drawn():
    shape = (2, 8, 8)
    image = Volume("CT", Grid.regular("zyx", shape, spacing=(1, 1, 1)), ArraySource(np.arange(128).reshape(shape)))
    none = np.zeros(0, np.int64)
    objects = Objects(none, none, none, none.reshape(0, 3), none.reshape(0, 3), none)
    record = CaseRecord("a", "", "zyx", shape, (1.0, 1.0, 1.0), "mm", ("CT",), (), objects)
    catalog = Catalog([record], CategoryTree((), (), ()), lambda record: Case("a", {"CT": image}, {}))
    sampler = VolumeSampler(catalog, (2, 8, 8))
    for start in (-30, 1, 0):
        sample = sampler.load_sample(Target("a", Window((start, 0, 0), (32, 8, 8)), "any"))
        assert draw_patch(sample, catalog).any()
    outside = sampler.load_sample(Target("a", Window((40, 0, 0), (32, 8, 8)), "any"))
    assert not draw_patch(outside, catalog).any()
