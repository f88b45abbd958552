"""ndvol.nnunet against nnU-Net itself: its preprocessing, data loader and trainer get what its own files give them."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[nnunet]")
pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed: pip install ndvol[nnunet]")

sys.path.insert(0, str(Path(__file__).parent))

# Its dependencies use what numpy, torch and Python will do without one day.
pytestmark = pytest.mark.filterwarnings("default")

import torch  # noqa: E402
from cases import CATEGORIES, catalog_of, oblique_grid, write_case  # noqa: E402
from nnunet_plans import PLANS  # noqa: E402
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader  # noqa: E402
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

import ndvol  # noqa: E402
from ndvol.errors import GridError, SourceError, UnknownNameError  # noqa: E402
from ndvol.exporting import export_nnunet  # noqa: E402
from ndvol.formats.writing import write_nifti  # noqa: E402
from ndvol.geometry import Grid  # noqa: E402
from ndvol.interop import to_sitk  # noqa: E402
from ndvol.nnunet import CaseDataset, own_number, preprocess  # noqa: E402
from ndvol.store import CaseWriter, open_case  # noqa: E402

DATASET = {
    "channel_names": {"0": "CT", "1": "PET"},
    "labels": {"background": 0, "cyst": 1, "liver": 2},
    "numTraining": 3,
    "file_ending": ".nrrd",
}
SHAPES = {"a": (9, 18, 17), "b": (10, 20, 16), "c": (11, 17, 19)}


def write_dataset(base: Path, dataset=DATASET, plans=PLANS) -> Path:
    base.mkdir(parents=True, exist_ok=True)
    for name, content in (("dataset", dataset), ("nnUNetPlans", plans), ("dataset_fingerprint", {})):
        (base / f"{name}.json").write_text(json.dumps(content))
    return base


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(case files, nnU-Net's folder of the data set, the files that `preprocess` wrote)."""
    root = tmp_path_factory.mktemp("nnunet")
    paths = [write_case(root, name, shape, k) for k, (name, shape) in enumerate(SHAPES.items())]
    base = write_dataset(root / "preprocessed" / "Dataset001_Tiny")
    return paths, base, preprocess(catalog_of(paths), base, "3d_fullres")


@pytest.fixture(scope="module")
def by_nnunet(tiny, tmp_path_factory):
    """The same cases by nnU-Net alone: from image files, through its reader and preprocessor, into its own format."""
    paths, base, _ = tiny
    folder, raw = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("raw")
    manager = PlansManager(str(base / "nnUNetPlans.json"))
    setting = manager.get_configuration("3d_fullres")
    for path in paths:
        case = open_case(path)
        files = [str(raw / f"{path.stem}_{k:04d}.nrrd") for k in range(2)]
        for name, file in zip(("CT", "PET"), files, strict=True):
            SimpleITK.WriteImage(to_sitk(case.images[name]), file)
        truth = to_sitk(case.labels["organs"])
        swapped = SimpleITK.ChangeLabel(truth, {1: 2, 2: 1})
        SimpleITK.WriteImage(swapped, str(raw / f"{path.stem}.nrrd"))
        setting.preprocessor_class(verbose=False).run_case_save(
            str(folder / path.stem), files, str(raw / f"{path.stem}.nrrd"), manager, setting, DATASET
        )
    return nnUNetDatasetBlosc2(str(folder))


def voxels(locations) -> set[tuple[int, ...]]:
    return {tuple(int(i) for i in locations[k]) for k in range(len(locations))}


def test_the_voxels_are_those_of_nnunets_own_preprocessing(tiny, by_nnunet):
    _, base, written = tiny
    assert [path.name for path in written] == ["a.h5", "b.h5", "c.h5"]
    ours = CaseDataset(str(base / "tiny_3d"))
    assert ours.identifiers == by_nnunet.identifiers == ["a", "b", "c"]
    for name in ours.identifiers:
        (data, seg, previous, properties), (own, own_seg, _, own_properties) = ours[name], by_nnunet[name]
        assert data.shape[1:] != SHAPES[name]  # it was resampled
        assert np.array_equal(np.asarray(data), own[:])
        assert np.array_equal(np.asarray(seg), own_seg[:])
        assert (data.dtype, seg.dtype, previous) == (np.float32, np.int16, None)
        assert set(np.unique(seg)) >= {0, 1, 2}
        ours_locations, theirs = properties.pop("class_locations"), own_properties.pop("class_locations")
        assert list(ours_locations) == list(theirs)
        for key in theirs:
            assert voxels(ours_locations[key]) == set(map(tuple, np.argwhere(own_seg[:] == key).tolist()))
            assert voxels(ours_locations[key]) >= voxels(theirs[key])
            assert len(ours_locations[key]) == len(voxels(ours_locations[key])) > 0
            with pytest.raises(IndexError):
                ours_locations[key][len(ours_locations[key])]
        geometry, own_geometry = properties.pop("sitk_stuff"), own_properties.pop("sitk_stuff")
        assert all(np.allclose(geometry[part], own_geometry[part]) for part in ("spacing", "origin", "direction"))
        assert np.allclose(properties.pop("spacing"), own_properties.pop("spacing"))
        assert properties == json.loads(json.dumps(own_properties))


def test_an_export_and_its_sources_make_the_same_voxels(tmp_path):
    """Of files whose axes run otherwise than in the bundle: nnU-Net does not turn them, and so predicts on them."""
    grid = oblique_grid((9, 18, 17)).flip(0).flip(2).permute((0, 2, 1))
    rng = np.random.default_rng(0)
    labels = np.zeros(grid.shape, np.uint8)
    labels[1:5, 2:9, 3:12], labels[2:4, 3:5, 6:11] = 1, 2
    for kind, array in (("images", rng.integers(-900, 900, grid.shape).astype(np.int16)), ("labels", labels)):
        write_nifti(tmp_path / "source" / kind / "a.nii.gz", array, grid)
    options = ndvol.ImportOptions(
        modality="CT", categories=({"name": "liver", "value": 1}, {"name": "cyst", "value": 2})
    )
    catalog = ndvol.import_tree(tmp_path / "source", tmp_path / "bundle", options=options)
    assert catalog["a"].images["CT"].shape != grid.shape
    raw, base = tmp_path / "raw", tmp_path / "preprocessed"
    assert export_nnunet(catalog, raw) == {}
    dataset = json.loads((raw / "dataset.json").read_text())
    one = {"normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False]}
    plans = {**PLANS, "configurations": {"3d_fullres": {**PLANS["configurations"]["3d_fullres"], **one}}}
    preprocess(catalog, write_dataset(base, dataset, plans), "3d_fullres")
    data, seg, _, properties = CaseDataset(str(base / "tiny_3d"))["a"]
    manager = PlansManager(plans)
    setting = manager.get_configuration("3d_fullres")
    for image, truth in (
        (raw / "imagesTr/a_0000.nii.gz", raw / "labelsTr/a.nii.gz"),
        (tmp_path / "source/images/a.nii.gz", tmp_path / "source/labels/a.nii.gz"),
    ):
        preprocessor = setting.preprocessor_class(verbose=False)
        own, own_seg, facts = preprocessor.run_case([str(image)], str(truth), manager, setting, dataset)
        assert np.array_equal(np.asarray(data), own)
        assert np.array_equal(np.asarray(seg), own_seg)
        for part in ("spacing", "origin", "direction"):
            assert np.allclose(properties["sitk_stuff"][part], facts["sitk_stuff"][part], atol=1e-4)


def test_a_segmentation_that_nnunet_writes_lies_on_the_case(tiny):
    paths, base, _ = tiny
    for path in paths:
        truth, written = open_case(path).labels["organs"], base / "gt_segmentations" / f"{path.stem}.nrrd"
        image = SimpleITK.ReadImage(str(written))
        for at in np.argwhere(np.asarray(truth) > 0)[::97].tolist():
            index = image.TransformPhysicalPointToIndex(truth.grid.world(at).tolist())
            assert DATASET["labels"][CATEGORIES[int(truth[tuple(at)])]] == image[index]


@pytest.mark.parametrize("oversample", [0.0, 1.0])
def test_nnunets_data_loader_draws_the_same_patches_from_both(tiny, by_nnunet, oversample):
    """With one random state, batches agree; forced foreground is centred on a voxel of its class."""
    _, base, _ = tiny
    labels = PlansManager(PLANS).get_label_manager(DATASET)
    batches = []
    for dataset in (CaseDataset(str(base / "tiny_3d")), by_nnunet):
        loader = nnUNetDataLoader(dataset, 3, (8, 16, 16), (8, 16, 16), labels, oversample)
        np.random.seed(3)
        batches.append([loader.generate_train_batch() for _ in range(4)])
    for ours, theirs in zip(*batches, strict=True):
        assert ours["data"].dtype == theirs["data"].dtype == torch.float32
        assert ours["target"].dtype == theirs["target"].dtype
        if not oversample:
            assert list(ours["keys"]) == list(theirs["keys"])
            assert torch.equal(ours["data"], theirs["data"])
            assert torch.equal(ours["target"], theirs["target"])
        else:
            assert (ours["target"] > 0).flatten(1).any(1).all()


def test_a_region_is_drawn_from_all_its_values(tmp_path):
    seg = np.zeros((1, 6, 7, 8), np.int16)
    seg[0, 1:3, 2:4, 1:6], seg[0, 4, :, 2], seg[0, 0, 0] = 1, 3, -1
    locations = {(1, 2, 3): [], (3,): [], 2: []}
    CaseDataset.save_case(np.zeros((2, 6, 7, 8)), seg, {"class_locations": locations}, str(tmp_path / "a"))
    _, stored, _, properties = CaseDataset(str(tmp_path)).load_case("a")
    assert np.array_equal(np.asarray(stored), seg)
    found = properties["class_locations"]
    assert list(found) == list(locations)
    assert voxels(found[1, 2, 3]) == set(map(tuple, np.argwhere(seg > 0).tolist()))
    assert voxels(found[3,]) == set(map(tuple, np.argwhere(seg == 3).tolist()))
    assert len(found[2]) == 0


def test_a_category_has_the_number_that_its_region_does_not_share():
    labels = {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "enhancing": 3, "organ": [4, 5], "a": 4, "b": 5}
    expected = {"whole": 2, "core": 1, "enhancing": 3, "organ": None, "a": 4, "b": 5, "elsewhere": None}
    assert {name: own_number(labels, name) for name in expected} == expected


def test_the_previous_stage_and_a_pickle(tmp_path):
    rng = np.random.default_rng(0)
    seg, data = rng.integers(0, 3, (1, 5, 6, 7)), rng.random((1, 5, 6, 7)).astype(np.float32)
    (tmp_path / "full").mkdir()
    (tmp_path / "low").mkdir()
    CaseDataset.save_case(data, seg, {"class_locations": {1: []}}, str(tmp_path / "full" / "a"))
    CaseDataset.save_seg(seg[0].astype(np.uint8), str(tmp_path / "low" / "a"))
    dataset = CaseDataset(str(tmp_path / "full"), ["a"], str(tmp_path / "low"))
    for each in (dataset, pickle.loads(pickle.dumps(dataset))):
        loaded, _, previous, properties = each["a"]
        assert np.array_equal(np.asarray(loaded), data)
        assert np.array_equal(previous[1:4], seg[0, 1:4])
        assert len(properties["class_locations"][1]) == (seg == 1).sum()


def test_what_cannot_be_right_is_refused(tiny, tmp_path):
    paths, _, _ = tiny
    with pytest.raises(SourceError, match=r"a\.h5 is no case that nnU-Net has preprocessed; got volumes CT, PET"):
        CaseDataset(str(paths[0].parent)).load_case("a")
    zeros = np.zeros((1, 2, 2, 2), np.int16)
    with pytest.raises(SourceError, match="ignore label"):
        CaseDataset.save_case(zeros, zeros, {"class_locations": {(-1, 0, 1): []}}, str(tmp_path / "a"))
    assert CaseDataset.get_identifiers(str(tmp_path)) == []
    base = write_dataset(tmp_path / "Dataset001_Tiny")
    lone = write_case(tmp_path, "lone", (9, 18, 17), images=("CT",))
    with pytest.raises(UnknownNameError, match=r"case 'lone' lacks the images \['PET'\] of dataset.json"):
        preprocess(catalog_of([lone]), base, "3d_fullres")
    with pytest.raises(UnknownNameError, match="which label volume of case 'a' is to be learnt"):
        preprocess(catalog_of(paths[:1]), base, "3d_fullres", label="lungs")
    (base / "dataset.json").write_text(json.dumps({**DATASET, "labels": {"background": 0, "liver": 1}}))
    with pytest.raises(SourceError, match=r"dataset.json has no number for category 'cyst' of case 'a'"):
        preprocess(catalog_of(paths[:1]), base, "3d_fullres")
    with CaseWriter(tmp_path / "two.h5", case="two") as writer:
        for name, origin in (("CT", 0), ("PET", 1)):
            grid = Grid.regular("zyx", (4, 5, 6), spacing=(1, 1, 1), origin=(origin, 0, 0))
            writer.add_image(name, np.zeros((4, 5, 6), np.int16), grid)
        zero = Grid.regular("zyx", (4, 5, 6), spacing=(1, 1, 1))
        writer.add_label("organs", np.ones((4, 5, 6), np.uint8), zero, categories={1: "liver"})
    with pytest.raises(GridError, match="needs all volumes of case 'two' over z, y and x on one grid"):
        preprocess(catalog_of([tmp_path / "two.h5"]), base, "3d_fullres")


@pytest.mark.slow
def test_nnunets_trainer_trains_and_validates_unchanged(tiny, tmp_path, monkeypatch):
    """Its own nnUNetTrainer, one epoch on the CPU with augmentation workers, then its validation and export."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    paths, base, _ = tiny
    (base / "splits_final.json").write_text(json.dumps([{"train": ["a", "b"], "val": ["c"]}]))
    monkeypatch.setenv("nnUNet_preprocessed", str(base.parent))
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    monkeypatch.setenv("nnUNet_compile", "f")
    plans = {**json.loads(json.dumps(PLANS)), "continue_training": False}
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, DATASET, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 2, 1
    trainer.run_training()
    assert trainer.dataset_class is CaseDataset
    trainer.perform_actual_validation()
    [folder] = tmp_path.rglob("validation")
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 1
    predicted = SimpleITK.ReadImage(str(folder / "c.nrrd"))
    assert predicted.GetSize() == SHAPES["c"][::-1]
    grid = open_case(paths[2]).images["CT"].grid
    for at in [(0, 0, 0), (10, 16, 18), (3, 5, 7)]:
        assert np.allclose(predicted.TransformIndexToPhysicalPoint(at[::-1]), grid.world(at))
