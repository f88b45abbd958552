"""The main job on real scans with known answers, and the promises that take a while to check."""

from __future__ import annotations

import multiprocessing

import nibabel as nib
import numpy as np
import pytest

from ndvol.demo import write_toy_sources
from ndvol.importing import ImportOptions, import_tree, read_categories
from ndvol.opening import open_catalog
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Mix, Negative, Positive


@pytest.mark.realdata
def test_dicom_and_nifti_of_the_phantom_are_one_volume(real_data, tmp_path):
    dicom = import_tree(real_data / "ct_phantom" / "dicom" / "image", tmp_path / "dicom")
    nifti = import_tree(real_data / "ct_phantom" / "nifti", tmp_path / "nifti")
    [a], [b] = (list(catalog.values()) for catalog in (dicom, nifti))
    ct, image = a.images["CT"], b.images["image"]
    source = nib.load(real_data / "ct_phantom" / "nifti" / "image" / "phantom.nii.gz")
    assert source.shape == (204, 201, 60)
    for volume in (ct, image):
        voxels = np.asarray(volume)
        assert (voxels.min(), voxels.max()) == (-1000, 3065)
        # Where each stored voxel lies in the file, by the file's own affine.
        to_file = np.linalg.inv(source.affine) @ volume.grid.nifti_affine
        turn, shift = np.round(to_file[:3, :3]).astype(int), np.round(to_file[:3, 3]).astype(int)
        np.testing.assert_allclose(to_file[:3], np.column_stack([turn, shift]), atol=1e-4)
        xyz = np.stack(np.meshgrid(*(np.arange(n) for n in voxels.shape[::-1]), indexing="ij"), -1)
        at = xyz @ turn.T + shift
        np.testing.assert_array_equal(voxels.transpose(), source.get_fdata()[tuple(np.moveaxis(at, -1, 0))])
    assert np.abs(ct.grid.affine - image.grid.affine).max() < 1e-4
    assert np.abs(np.asarray(ct).astype(float) - np.asarray(image)).max() == 0


@pytest.mark.realdata
def test_positives_hold_the_tumour_and_negatives_do_not(real_data, tmp_path):
    folder = real_data / "ct_phantom" / "nifti"
    options = ImportOptions(labels=str(folder / "mask"), label_name="GTV-1")
    catalog = import_tree(folder / "image", tmp_path / "bundle", options=options)
    assert catalog.record("phantom").objects.voxels.sum() == 125256
    strategy = Mix({Positive("GTV-1"): 1, Negative("GTV-1", max_overlap=0.0): 1})
    sampler = VolumeSampler(catalog, (32, 32, 32), strategy=strategy, seed=0)
    assert all(sampler.load_positive(i).labels["GTV-1"].any() for i in range(200))
    assert not any(sampler.load_negative(i).labels["GTV-1"].any() for i in range(200))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_two_hundred_samples_are_equal_for_all_workers_and_start_methods(tmp_path):
    torch = pytest.importorskip("torch")
    from ndvol.torch import PatchDataset

    raw = write_toy_sources(tmp_path / "raw")
    options = ImportOptions(categories=read_categories(raw / "categories.json"), modality="CT")
    import_tree(raw / "nifti", tmp_path / "bundle", options=options)

    def items(workers, method):
        strategy = Mix({Positive({"lesion": 2, "organ": 1}, jitter=0.5): 1, Negative("finding"): 1})
        sampler = VolumeSampler(open_catalog(tmp_path / "bundle"), (16, 32, 32), strategy=strategy, length=200, seed=7)
        context = multiprocessing.get_context(method) if workers else None
        loader = torch.utils.data.DataLoader(
            PatchDataset(sampler), batch_size=None, num_workers=workers, multiprocessing_context=context
        )
        return list(loader)

    expected = items(0, None)
    assert len(expected) == 200
    runs = [(0, None), *((w, m) for m in ("fork", "spawn", "forkserver") for w in (2, 4))]
    for workers, method in runs:
        found = items(workers, method)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.keys() == theirs.keys()
            for key, value in theirs.items():
                same = torch.equal(ours[key], value) if isinstance(value, torch.Tensor) else ours[key] == value
                assert same, (workers, method, key)
