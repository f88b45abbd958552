"""ndvol.monai against MONAI itself: its collation, resampling, saving and inference see each voxel in its place."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torch]")
monai = pytest.importorskip("monai", reason="monai is not installed: pip install ndvol[monai]")

sys.path.insert(0, str(Path(__file__).parent))

from cases import catalog_of, lps_of_ras, oblique_grid, value_at, write_case  # noqa: E402
from monai.data import DataLoader, Dataset, MetaTensor  # noqa: E402
from monai.inferers import SlidingWindowInferer  # noqa: E402
from monai.transforms import (  # noqa: E402
    Compose,
    Flip,
    LoadImage,
    LoadImaged,
    Orientation,
    SaveImage,
    Spacing,
    SpatialResample,
)

from ndvol.errors import GridError, OptionError, UnknownNameError  # noqa: E402
from ndvol.geometry import Grid  # noqa: E402
from ndvol.grid_sampler import GridSampler  # noqa: E402
from ndvol.monai import CaseReader, to_metatensors  # noqa: E402
from ndvol.sampler import Reading, VolumeSampler  # noqa: E402
from ndvol.sampling import Uniform  # noqa: E402
from ndvol.store import CaseWriter, open_case  # noqa: E402
from ndvol.torch import GridDataset, PatchDataset  # noqa: E402
from ndvol.toy import DynamicToySampler, ToyOptions  # noqa: E402

# LoadImage makes a reader that wants a codec for GPUs, and warns of its absence.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
SHAPE = (9, 14, 17)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    return [write_case(folder, "a", SHAPE, 0), write_case(folder, "b", (7, 16, 13), 1)]


def indices(shape):
    """Some corners and some voxels within."""
    rng = np.random.default_rng(0)
    return [(0, 0, 0), tuple(n - 1 for n in shape), *(tuple(map(int, rng.integers(0, shape))) for _ in range(30))]


def compare(tensor, volume, *, channel=0):
    """Every voxel looked at lies where the volume has that value; returns how many were within the volume."""
    array, inside = tensor.numpy()[channel], 0
    for at in indices(array.shape):
        expected = value_at(volume, lps_of_ras(tensor.affine, at))
        assert array[at] == (0 if expected is None else expected)
        inside += expected is not None
    return inside


def save(tensor, folder, name):
    """What MONAI writes to a NIfTI file, as nibabel reads it."""
    # MONAI 1.6 takes a single channel that is squeezed for a picture (its issue 9068), and fails.
    SaveImage(folder, output_postfix=name, separate_folder=False, print_log=False, squeeze_end_dims=False)(tensor)
    saved = nibabel.load(folder / f"a_{name}.nii.gz")
    return MetaTensor(saved.get_fdata()[..., 0][None], affine=saved.affine)


@pytest.mark.parametrize("workers", [0, 2])
def test_patches_under_workers_are_in_place_and_follow_the_epoch(paths, workers):
    dataset = PatchDataset(VolumeSampler(catalog_of(paths), (6, 8, 9), seed=3, length=6))
    loader = DataLoader(Dataset(dataset, to_metatensors), batch_size=3, num_workers=workers)
    seen = []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        items = [item for batch in loader for item in monai.data.decollate_batch(batch)]
        assert len(items) == 6
        for i, item in enumerate(items):
            raw = dataset[i]
            assert isinstance(item["image"], MetaTensor)
            assert torch.equal(item["image"].as_tensor(), raw["image"])
            assert torch.equal(item["label"].as_tensor(), raw["label"])
            assert item["label"].dtype == torch.int64
            assert torch.equal(item["image"].affine, raw["affine"])
            assert item["image"].meta["filename_or_obj"] == item["case"]
            case = open_case(next(p for p in paths if p.stem == item["case"]))
            assert compare(item["image"], case.images["CT"])
            assert compare(item["image"], case.images["PET"], channel=1)
            assert compare(item["label"], case.labels["organs"])
        seen.append(items[0]["image"].as_tensor())
    assert not torch.equal(*seen)


def test_reorienting_and_saving_a_patch_keep_it_in_place(paths, tmp_path):
    case = open_case(paths[0])
    sampler = VolumeSampler(catalog_of(paths[:1]), (6, 8, 9), seed=5, length=3, reading=Reading(images=["CT"]))
    for i in range(3):
        patch = to_metatensors(PatchDataset(sampler)[i])["image"]
        turned = Orientation("RAS", labels=None)(patch)
        assert turned.shape != patch.shape
        assert compare(turned, case.images["CT"])
        saved = save(patch, tmp_path, str(i))
        assert saved.shape == (1, 6, 8, 9)
        assert compare(saved, case.images["CT"])


def test_resampling_onto_the_grid_of_the_case_puts_a_patch_back(paths):
    """SpatialResample finds the place of each patch by the affines alone; grids share their voxel centres."""
    case = open_case(paths[0])
    whole = LoadImage(reader=CaseReader("CT"))(paths[0])
    for sample in GridSampler(case, (5, 7, 8), images=["CT"]):
        item = {"image": torch.from_numpy(sample.images["CT"].astype(np.float32))[None], "case": "a"}
        patch = to_metatensors({**item, "affine": torch.from_numpy(sample.grid.ras_affine)})["image"]
        put = SpatialResample(mode="nearest", padding_mode="zeros")(patch, dst_affine=whole.affine, spatial_size=SHAPE)
        expected = torch.zeros_like(put.as_tensor())
        clip = sample.window.clip(SHAPE)
        expected[0][clip.inside] = whole.as_tensor()[0][clip.inside]
        assert torch.equal(put.as_tensor(), expected)


def test_spacing_agrees_with_world_coordinates():
    """A volume that holds its own world coordinate x, linear, keeps it under MONAI's linear resampling."""
    grid = oblique_grid((10, 12, 14))
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    world = np.moveaxis(grid.world(index), -1, 0)
    image = MetaTensor(world.copy(), affine=grid.ras_affine)
    fine = Spacing((1.0, 1.0, 1.0), mode="bilinear", dtype=np.float64)(image)
    assert fine.shape[1:] != image.shape[1:]
    for at in [(3, 2, 2), (12, 4, 5), (8, 5, 9)]:
        assert np.allclose(fine.numpy()[(slice(None), *at)], lps_of_ras(fine.affine, at), atol=1e-4)


@pytest.mark.parametrize("workers", [0, 2])
def test_load_imaged_reads_case_files(paths, workers):
    load = Compose(
        [
            LoadImaged("image", reader=CaseReader(["PET", "CT"]), ensure_channel_first=True),
            LoadImaged("label", reader=CaseReader(labels="organs"), ensure_channel_first=True, dtype=np.int64),
        ]
    )
    data = Dataset([{"image": path, "label": path} for path in paths], load)
    for path, item in zip(paths, DataLoader(data, batch_size=1, num_workers=workers), strict=True):
        case, image, label = open_case(path), item["image"][0], item["label"][0]
        assert np.array_equal(image.numpy(), np.stack([case.images["PET"], case.images["CT"]]).astype(np.float32))
        assert (image.dtype, label.dtype) == (torch.float32, torch.int64)
        assert np.array_equal(label.numpy()[0], np.asarray(case.labels["organs"]))
        assert np.array_equal(image.affine, case.images["CT"].grid.ras_affine)
        assert item["image"].meta["filename_or_obj"] == [str(path)]
        assert compare(monai.data.decollate_batch(item)[0]["label"], case.labels["organs"])


def test_several_files_become_channels(paths, tmp_path):
    other = write_case(tmp_path, "other", SHAPE, 7, images=("MR",))
    volume = np.asarray(open_case(other).images["MR"])
    assert np.array_equal(LoadImage(reader=CaseReader())(other)[0], volume)
    assert np.array_equal(LoadImage(reader=CaseReader("CT"))([paths[0], paths[0]])[1], open_case(paths[0])["CT"])


def test_time_becomes_channels(tmp_path):
    array = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.int16).reshape(2, 3, 4, 5, 6)
    with CaseWriter(tmp_path / "t.h5", case="t") as writer:
        writer.add_image("cine", array, Grid.regular("tczyx", array.shape, spacing=(3, 1, 1)))
    image = LoadImage(reader=CaseReader("cine"), ensure_channel_first=True)(tmp_path / "t.h5")
    assert np.array_equal(image.numpy(), array.reshape(6, 4, 5, 6))
    assert image.affine.shape == (4, 4)


@pytest.mark.parametrize(
    ("reader", "error", "message"),
    [
        (CaseReader("MR"), UnknownNameError, "case 'a' has no images 'MR'; expected some of CT, PET"),
        (CaseReader(labels="CT"), UnknownNameError, "case 'a' has no labels 'CT'; expected some of organs"),
        (CaseReader(), OptionError, "case 'a' has several images.*expected one or more of CT, PET"),
    ],
)
def test_what_the_file_does_not_have_is_refused(paths, reader, error, message):
    with pytest.raises(error, match=message):
        LoadImage(reader=reader)(paths[0])


def test_volumes_on_different_grids_are_no_channels(paths):
    with pytest.raises(GridError, match="volumes 'CT' and 'CT' lie on different grids"):
        LoadImage(reader=CaseReader("CT"))(paths)


def test_other_files_are_left_to_the_other_readers(paths, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4), np.float32), np.eye(4)), tmp_path / "a.nii")
    load = LoadImage(reader=CaseReader("CT"))
    assert (load(tmp_path / "a.nii").shape, load(paths[0]).shape) == ((2, 3, 4), (1, *SHAPE))


def test_images_and_labels_are_read_apart():
    with pytest.raises(ValueError, match="reads images or labels, not both"):
        CaseReader("CT", labels="organs")


def test_the_reader_is_chosen_by_the_ending(paths):
    load = LoadImage()
    load.register(CaseReader("CT"))
    assert np.array_equal(load(paths[0])[0], np.asarray(open_case(paths[0]).images["CT"]))
    assert not CaseReader().verify_suffix("a.nii.gz")


def test_sliding_window_inference_over_a_case_and_by_our_windows(paths, tmp_path):
    """MONAI's inferer over the whole case, and our windows through the same model, agree and are saved in place."""

    def model(batch):
        return torch.cat([batch, -2 * batch], 1)

    image = LoadImage(reader=CaseReader("CT"), ensure_channel_first=True)(paths[0])
    inferer = SlidingWindowInferer(roi_size=(5, 8, 8), sw_batch_size=2, overlap=0.25, mode="gaussian")
    scores = inferer(image[None], model)[0]
    assert torch.allclose(scores.as_tensor(), model(image[None]).as_tensor()[0], rtol=1e-4)
    case = open_case(paths[0])
    assert compare(save(scores[:1].round(), tmp_path, "scores"), case.images["CT"]) == len(indices(SHAPE))
    grid = GridSampler(case, (5, 8, 8), overlap=0.25, images=["CT"])
    result = np.zeros((2, *SHAPE), np.float32)
    with grid.stitcher("a", result) as stitcher:
        for batch in DataLoader(Dataset(GridDataset(grid), to_metatensors), batch_size=3):
            for index, patch in zip(batch["index"].tolist(), model(batch["image"]), strict=True):
                stitcher.add(grid.window_at(index), patch.numpy())
    assert np.allclose(result, scores.numpy(), rtol=1e-3, atol=1e-2)


def test_pictures_are_metatensors_of_two_axes():
    options = ToyOptions("yx", (40, 48))
    item = to_metatensors(PatchDataset(DynamicToySampler((32, 24), options=options, cases=1, strategy=Uniform()))[0])
    assert item["image"].affine.shape == (3, 3)
    flipped = Flip(spatial_axis=0)(item["image"])
    assert torch.equal(flipped.as_tensor(), item["image"].as_tensor().flip(1))
    assert np.allclose(flipped.affine.numpy() @ [31 - 5, 7, 1], item["image"].affine.numpy() @ [5, 7, 1])


def test_what_a_worker_is_sent_reads_the_same(paths):
    load = pickle.loads(pickle.dumps(LoadImaged("image", reader=CaseReader("CT"))))
    for path in paths:
        assert np.array_equal(load({"image": path})["image"][0], np.asarray(open_case(path).images["CT"]))


@pytest.mark.slow
def test_workers_that_start_anew_read_the_same(paths):
    load = LoadImaged("image", reader=CaseReader("CT"))
    data = Dataset([{"image": path} for path in paths], load)
    loader = DataLoader(data, batch_size=1, num_workers=1, multiprocessing_context="spawn")
    for path, batch in zip(paths, loader, strict=True):
        assert np.array_equal(batch["image"][0, 0], np.asarray(open_case(path).images["CT"]))
