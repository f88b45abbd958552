"""Toy catalogues: what their records say is what their voxels hold, for any axes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from ndvol.errors import OptionError
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Mix, Negative, Positive
from ndvol.toy import NOISE, ToyOptions, toy_catalog


@pytest.mark.parametrize("axes", ["x", "yx", "cyx", "zyx", "tyx", "czyx", "tczyx"])
def test_records_tell_the_truth(axes):
    catalog = toy_catalog(3, ToyOptions(axes), seed=5)
    tree = catalog.categories
    for name, record in catalog.records.items():
        case = catalog[name]
        image, label = case.images["image"], case.labels["objects"]
        assert (image.axes, image.shape) == (record.axes, record.shape) == (axes, record.shape)
        voxels = label[...]
        assert record.objects.voxels.sum() == (voxels != 0).sum() > 0
        keep = [axes.index(a) for a in label.axes]
        for k in range(len(record.objects)):
            box = tuple(slice(record.objects.start[k][i], record.objects.stop[k][i]) for i in keep)
            assert tree.names[record.objects.category[k]] == label.categories[int(record.objects.value[k])]
            assert (voxels[box] == record.objects.value[k]).sum() >= record.objects.voxels[k]


def test_a_category_can_be_told_by_its_intensity():
    case = toy_catalog(1, ToyOptions("zyx", categories=4, objects=(30, 30)))["toy-0"]
    image, labels = case.images["image"][...], case.labels["objects"][...]
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    for value in range(5):
        found = image[labels == value]
        assert abs(found.mean() - 100 * value) < 5 * NOISE / np.sqrt(len(found))


def test_objects_move_and_cases_differ():
    catalog = toy_catalog(2, ToyOptions("tyx", (6, 80, 80)))
    labels = catalog["toy-0"].labels["objects"][...]
    assert all((labels[t] != labels[t + 1]).any() for t in range(5))
    assert (labels != catalog["toy-1"].labels["objects"][...]).any()


def test_the_same_voxels_every_time_and_in_every_process():
    catalog = pickle.loads(pickle.dumps(toy_catalog(2, seed=3)))
    for other in (toy_catalog(2, seed=3), catalog):
        np.testing.assert_array_equal(other["toy-1"].images["image"][...], catalog["toy-1"].images["image"][...])
    assert (toy_catalog(1, seed=4)["toy-0"].images["image"][...] != catalog["toy-0"].images["image"][...]).any()


@pytest.mark.parametrize(("axes", "window"), [("yx", (16, 16)), ("zyx", (8, 16, 16)), ("tczyx", (8, 16, 16))])
def test_samplers_draw_from_them(axes, window):
    catalog = toy_catalog(3, ToyOptions(axes))
    sampler = VolumeSampler(catalog, window, strategy=Mix({Positive("lesion"): 1, Negative("lesion"): 1}), length=20)
    roles = {sampler[i].target.role for i in range(20)}
    assert roles == {"positive", "negative"}


@pytest.mark.parametrize(
    "wrong",
    [{"axes": "xyz"}, {"axes": "t"}, {"axes": ""}, {"shape": (3, 4)}, {"shape": (0, 4, 4)}, {"objects": (4, 2)}],
)
def test_what_makes_no_sense(wrong):
    with pytest.raises(OptionError):
        ToyOptions(**wrong)
