"""ndvol.torchio against TorchIO itself: its loader, resampling, saving and aggregation see each voxel in its place."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torchio]")
tio = pytest.importorskip("torchio", reason="torchio is not installed: pip install ndvol[torchio]")

sys.path.insert(0, str(Path(__file__).parent))

from cases import catalog_of, lps_of_ras, oblique_grid, value_at, write_case  # noqa: E402
from torch.utils.data import Subset  # noqa: E402

from ndvol.errors import GridError, OptionError, SamplingError, UnknownNameError, WindowError  # noqa: E402
from ndvol.geometry import Grid  # noqa: E402
from ndvol.grid_sampler import GridSampler  # noqa: E402
from ndvol.sampler import Reading, VolumeSampler  # noqa: E402
from ndvol.store import CaseWriter, open_case  # noqa: E402
from ndvol.torchio import SubjectDataset, SubjectGrid, to_subject  # noqa: E402
from ndvol.volumes import ArrayLabelSource, ArraySource, Case, LabelVolume, Volume  # noqa: E402

SHAPE = (9, 14, 17)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    return [write_case(folder, "a", SHAPE, 0), write_case(folder, "b", (7, 16, 13), 1)]


def compare(image, volume):
    """Every voxel looked at lies where the volume has that value; returns how many were within the volume."""
    rng, array, inside = np.random.default_rng(0), image.data.numpy()[0], 0
    for at in [(0, 0, 0), tuple(n - 1 for n in array.shape), *map(tuple, rng.integers(0, array.shape, (30, 3)))]:
        expected = value_at(volume, lps_of_ras(image.affine, at))
        assert array[at] == (0 if expected is None else expected)
        inside += expected is not None
    return inside


def test_a_case_as_a_subject(paths, tmp_path):
    case = open_case(paths[0])
    subject = to_subject(case)
    assert subject["case"] == "a"
    assert isinstance(subject["CT"], tio.ScalarImage)
    assert isinstance(subject["organs"], tio.LabelMap)
    assert (subject["CT"].data.dtype, subject["organs"].data.dtype) == (torch.float32, torch.int32)
    for name in ("CT", "PET", "organs"):
        assert np.array_equal(subject[name].data[0], np.asarray(case[name]))
        assert compare(subject[name], case[name]) == 32
        assert compare(tio.ToCanonical()(subject)[name], case[name]) == 32
    assert np.allclose(subject.spacing, case["CT"].grid.spacing)
    subject["CT"].save(tmp_path / "a.nii.gz")
    saved = nibabel.load(tmp_path / "a.nii.gz")
    assert compare(tio.ScalarImage(tensor=saved.get_fdata()[None], affine=saved.affine), case["CT"]) == 32


def test_resampling_agrees_with_world_coordinates():
    """A volume of its own world coordinate z, linear in space, keeps it under TorchIO's linear resampling."""
    grid = oblique_grid((10, 12, 14))
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    volume = Volume("z", grid, ArraySource(grid.world(index)[..., 2]))
    fine = tio.Resample((1.3, 1.0, 1.1))(to_subject(Case("a", {"z": volume}, {})))["z"]
    assert fine.spatial_shape != grid.shape
    for at in [(3, 2, 2), (12, 4, 5), (8, 5, 9)]:
        assert fine.data[0][at].item() == pytest.approx(lps_of_ras(fine.affine, at)[2], abs=1e-3)


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_under_workers_are_in_place_and_follow_the_epoch(paths, workers):
    sampler = VolumeSampler(catalog_of(paths), (6, 8, 9), seed=3, length=6)
    dataset = SubjectDataset(sampler, transform=tio.ToCanonical())
    loader = tio.SubjectsLoader(dataset, batch_size=3, num_workers=workers)
    seen = []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        batches = list(loader)
        indices = [i for batch in batches for i in batch["index"].tolist()]
        assert indices == list(range(6))
        for i in indices:
            batch, k = batches[i // 3], i % 3
            sample = sampler[i]
            case = open_case(next(p for p in paths if p.stem == batch["case"][k]))
            assert (batch["case"][k], batch["role"][k]) == (sample.target.case, sample.target.role)
            assert batch["location"][k].tolist() == [*sample.target.window.start, *sample.target.window.stop]
            for name in ("CT", "PET", "organs"):
                kind = tio.LabelMap if name == "organs" else tio.ScalarImage
                image = kind(tensor=batch[name]["data"][k], affine=batch[name]["affine"][k])
                assert compare(image, case[name])
        seen.append(batches[0]["CT"]["data"])
    assert not torch.equal(*seen)


WINDOWS = [((4, 6, 8), 0.5), ((5, 7, 9), 0.35), ((9, 5, 17), 0.0), (SHAPE, 0.2)]


@pytest.mark.parametrize(
    ("mode", "window", "overlap", "workers"),
    [*((m, *w, 0) for m in ("crop", "average", "hann") for w in WINDOWS), ("crop", *WINDOWS[0], 2)],
)
def test_the_aggregator_puts_our_windows_together(paths, mode, window, overlap, workers):
    subjects = SubjectGrid(GridSampler(catalog_of(paths), window, overlap=overlap, images=["CT"]))
    aggregator = subjects.aggregator("a", mode)
    part = Subset(subjects, subjects.sampler.indices("a"))
    for batch in tio.SubjectsLoader(part, batch_size=3, num_workers=workers):
        data = batch["CT"]["data"]
        aggregator.add_batch(torch.cat([data, 2 * data], 1), batch["location"])
    result = aggregator.get_output_tensor()
    whole = np.asarray(open_case(paths[0])["CT"])
    expected = np.stack([whole, 2 * whole])
    assert result.shape == (2, *SHAPE)
    if mode == "hann":
        assert np.allclose(result, expected, rtol=1e-4, atol=1e-3)
    else:
        assert np.array_equal(result, expected)


@pytest.mark.slow
def test_workers_that_start_anew_read_the_same(paths):
    dataset = SubjectDataset(VolumeSampler(catalog_of(paths), (6, 8, 9), seed=3, length=2))
    [batch] = tio.SubjectsLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    for k in range(2):
        for name in ("CT", "PET", "organs"):
            assert torch.equal(batch[name]["data"][k], dataset[k][name].data)
            assert np.array_equal(batch[name]["affine"][k], dataset[k][name].affine)


def test_a_pickle_gives_the_same_subjects(paths):
    catalog = catalog_of(paths)
    for dataset in (
        SubjectDataset(VolumeSampler(catalog, (4, 5, 6), length=4), transform=tio.Pad(1)),
        SubjectGrid(GridSampler(catalog, (4, 5, 6)), dtype=torch.float64),
    ):
        again = pickle.loads(pickle.dumps(dataset))
        assert len(again) == len(dataset) > 0
        assert torch.equal(again[-1]["CT"].data, dataset[-1]["CT"].data)
        assert np.array_equal(again[-1]["CT"].affine, dataset[-1]["CT"].affine)
        with pytest.raises(IndexError):
            dataset[len(dataset)]


def test_stock_grid_sampler_and_aggregator_on_a_case(paths):
    subject = to_subject(open_case(paths[0]))
    sampler = tio.GridSampler(subject, (4, 6, 8), (2, 2, 4))
    aggregator = tio.GridAggregator(sampler)
    for patch in sampler:
        aggregator.add_batch(patch["CT"].data[None], patch[tio.LOCATION][None])
        assert compare(patch["CT"], open_case(paths[0])["CT"]) == 32
    assert torch.equal(aggregator.get_output_tensor(), subject["CT"].data)


def test_windows_that_leave_the_case_are_refused(paths):
    catalog = catalog_of(paths)
    for options in ({"window": (8, 8, 8)}, {"window": (4, 4, 4), "halo": 1}):
        subjects = SubjectGrid(GridSampler(catalog, **options))
        with pytest.raises(WindowError, match=r"cannot put the patches of case 'b'.*use GridSampler.stitcher"):
            subjects.aggregator("b")
    assert SubjectGrid(GridSampler(catalog, (8, 8, 8))).aggregator("a")
    with pytest.raises(UnknownNameError):
        SubjectGrid(GridSampler(catalog, (4, 4, 4))).aggregator("c")


def test_each_volume_of_a_sample_keeps_its_own_grid(tmp_path):
    rng = np.random.default_rng(0)
    ct, pet = rng.integers(1, 99, (8, 12, 16)).astype(np.int16), rng.random((4, 6, 8)).astype(np.float32)
    fine = Grid.regular("zyx", ct.shape, spacing=(2, 1, 1))
    coarse = Grid.regular("zyx", pet.shape, spacing=(4, 2, 2), origin=(0.5, 0.5, 1))
    with CaseWriter(tmp_path / "a.h5", case="a") as writer:
        writer.add_image("CT", ct, fine)
        writer.add_image("PET", pet, coarse)
        writer.add_label("organs", (ct > 90).astype(np.uint8), fine, categories={1: "liver"})
    case = open_case(tmp_path / "a.h5")
    dataset = SubjectDataset(VolumeSampler(catalog_of([tmp_path / "a.h5"]), (4, 4, 4), length=5))
    for i in range(5):
        subject = dataset[i]
        assert subject["CT"].spatial_shape != subject["PET"].spatial_shape
        assert all(compare(subject[name], case[name]) for name in ("CT", "PET"))


def test_time_becomes_channels_and_the_location_is_of_space():
    cine = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    volume = Volume("cine", Grid.regular("tzyx", cine.shape, spacing=(3, 1, 1)), ArraySource(cine))
    [subject] = SubjectGrid(GridSampler(volume, (3, 4, 5)))
    assert np.array_equal(subject["cine"].data, cine)
    assert subject["location"].tolist() == [0, 0, 0, 3, 4, 5]


def test_what_torchio_cannot_hold_is_refused():
    flat = Volume("v", Grid.regular("yx", (4, 5)), ArraySource(np.zeros((4, 5))))
    with pytest.raises(GridError, match="'v' cannot be a TorchIO image; got axes yx"):
        to_subject(Case("a", {"v": flat}, {}))
    grid, ones = Grid.regular("zyx", (2, 3, 4)), np.ones((2, 3, 4), np.uint8)
    label = LabelVolume("v", grid, ArrayLabelSource(ones), categories={1: "one"})
    with pytest.raises(OptionError, match="two entries of a Subject would be called 'v'"):
        to_subject(Case("a", {"v": Volume("v", grid, ArraySource(ones))}, {"v": label}))
    for name in ("case", "location", "role", "index"):
        with pytest.raises(OptionError, match=f"would be called '{name}'"):
            to_subject(Case("a", {name: Volume(name, grid, ArraySource(ones))}, {}))
    huge = LabelVolume("h", grid, ArrayLabelSource(ones.astype(np.int64) << 31), categories={1 << 31: "one"})
    with pytest.raises(OptionError, match="label volume 'h' has values beyond int32; got 2147483648"):
        to_subject(Case("a", {}, {"h": huge}))


def test_a_case_without_the_labels_is_refused(paths, tmp_path):
    grid = oblique_grid((6, 8, 9))
    with CaseWriter(tmp_path / "bare.h5", case="bare") as writer:
        for name in ("CT", "PET"):
            writer.add_image(name, np.ones(grid.shape, np.int16), grid)
        writer.add_label("other", np.ones(grid.shape, np.uint8), grid, categories={1: "liver"})
    catalog = catalog_of([paths[0], tmp_path / "bare.h5"])
    sampler = VolumeSampler(catalog, (3, 3, 3), length=40, reading=Reading(labels=["organs"]))
    dataset = SubjectDataset(sampler)
    with pytest.raises(SamplingError, match="case 'bare' has no label volume 'organs'"):
        [dataset[i] for i in range(40)]
