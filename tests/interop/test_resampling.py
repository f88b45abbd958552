"""MONAI's and TorchIO's own resampling of what we hand over, against SimpleITK's of the same volume."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torch]")

sys.path.insert(0, str(Path(__file__).parent))

from cases import catalog_of, oblique_grid  # noqa: E402

import ndvol  # noqa: E402
from ndvol.geometry import Grid  # noqa: E402
from ndvol.interop import to_sitk  # noqa: E402
from ndvol.store import CaseWriter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
SHAPE = (10, 13, 16)
GRIDS = {
    "straight": Grid.regular("zyx", SHAPE, spacing=(2.5, 0.7, 0.9), origin=(5, -7, 9)),
    "flipped": oblique_grid(SHAPE).flip(0).flip(2),
    "permuted": oblique_grid(SHAPE, angle=-0.7).permute((2, 0, 1)).flip(1),
}
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(params=GRIDS)
def stored(request, tmp_path):
    """The file of a case whose axes run along the grid; its labels are three boxes."""
    grid = GRIDS[request.param]
    rng, labels = np.random.default_rng(0), np.zeros(grid.shape, np.uint16)
    labels[1:6, 2:9, 3:9], labels[2:5, 4:8, 5:8], labels[6:, 9:, 9:] = 1, 300, 65000
    with CaseWriter(tmp_path / "a.h5", case="a") as writer:
        writer.add_image("CT", rng.integers(-900, 900, grid.shape).astype(np.int16), grid)
        writer.add_label("organs", labels, grid, categories={1: "liver", 300: "cyst", 65000: "liver"})
    return tmp_path / "a.h5"


def by_sitk(image, affine, shape, interpolator):
    """`image` by SimpleITK on a grid of a framework, (z, y, x) to RAS; and where that is well within the image."""
    lps = TO_RAS @ np.asarray(affine, float)
    columns = lps[:3, 2::-1]
    spacing = np.linalg.norm(columns, axis=0)
    target = SimpleITK.Image([int(n) for n in shape[::-1]], SimpleITK.sitkUInt8)
    target.SetSpacing(spacing.tolist())
    target.SetOrigin(lps[:3, 3].tolist())
    target.SetDirection((columns / spacing).ravel().tolist())
    core = SimpleITK.Image(image.GetSize(), SimpleITK.sitkUInt8)
    core.CopyInformation(image)
    still = SimpleITK.Transform()
    result = SimpleITK.Resample(image, target, still, interpolator, 0.0, SimpleITK.sitkFloat64)
    within = SimpleITK.Resample(core + 1, target, still, SimpleITK.sitkLinear, 0.0, SimpleITK.sitkFloat64)
    return SimpleITK.GetArrayFromImage(result), SimpleITK.GetArrayFromImage(within) == 1


def agrees(found, affine, image, interpolator=SimpleITK.sitkLinear):
    """The values of a framework are SimpleITK's, but for labels right between two voxels."""
    expected, within = by_sitk(image, affine, found.shape, interpolator)
    assert within.sum() > 100
    assert np.ptp(expected[within]) >= 300
    close = np.abs(np.asarray(found, float) - expected)[within] < 0.05
    return close.all() if interpolator == SimpleITK.sitkLinear else close.mean() > 0.99


def cut(volume, window):
    """A window of a volume, whose place SimpleITK works out."""
    return SimpleITK.RegionOfInterest(to_sitk(volume), list(window.shape[::-1]), list(window.start[::-1]))


@pytest.fixture
def drawn(stored):
    """A sampler of one window, and the window."""
    sampler = ndvol.VolumeSampler(catalog_of([stored]), (8, 9, 9), strategy=ndvol.Positive("cyst"), length=1)
    return sampler, sampler.target(0).window


def test_monai(stored, drawn):
    pytest.importorskip("monai", reason="monai is not installed: pip install ndvol[monai]")
    from monai.transforms import Compose, LoadImaged, Orientationd, Spacingd

    from ndvol.monai import CaseReader, to_metatensors

    load = Compose(
        [
            LoadImaged("image", reader=CaseReader("CT"), dtype=np.float64),
            LoadImaged("label", reader=CaseReader(labels="organs"), dtype=np.int64),
        ]
    )
    resample = Compose(
        [
            Orientationd(["image", "label"], "LPS", labels=None),
            Spacingd(["image", "label"], (1.1, 1.2, 1.3), mode=("bilinear", "nearest"), dtype=np.float64),
        ]
    )
    case, (sampler, window) = ndvol.open_case(stored), drawn
    volumes = [case.images["CT"], case.labels["organs"]]
    whole = resample(load({"image": stored, "label": stored}))
    patch = resample(to_metatensors(ndvol.torch.PatchDataset(sampler, dtype=torch.float64)[0]))
    for item, images in ((whole, map(to_sitk, volumes)), (patch, (cut(volume, window) for volume in volumes))):
        image, label = images
        assert agrees(item["image"][0], item["image"].affine, image)
        assert agrees(item["label"][0], item["label"].affine, label, SimpleITK.sitkNearestNeighbor)


def test_torchio(stored, drawn):
    tio = pytest.importorskip("torchio", reason="torchio is not installed: pip install ndvol[torchio]")
    from ndvol.torchio import SubjectDataset, to_subject

    case, (sampler, window) = ndvol.open_case(stored), drawn
    volumes = [case.images["CT"], case.labels["organs"]]
    resample = tio.Compose([tio.ToCanonical(), tio.Resample((1.1, 1.2, 1.3))])
    whole = resample(to_subject(case, dtype=torch.float64))
    patch = SubjectDataset(sampler, transform=resample, dtype=torch.float64)[0]
    for subject, images in ((whole, map(to_sitk, volumes)), (patch, (cut(volume, window) for volume in volumes))):
        image, label = images
        assert agrees(subject["CT"].data[0], subject["CT"].affine, image)
        assert agrees(subject["organs"].data[0], subject["organs"].affine, label, SimpleITK.sitkNearestNeighbor)


def test_torchio_saves_every_label_in_its_place(stored, tmp_path):
    tio = pytest.importorskip("torchio", reason="torchio is not installed: pip install ndvol[torchio]")
    from ndvol.torchio import to_subject

    label = ndvol.open_case(stored).labels["organs"]
    to_subject(ndvol.open_case(stored))["organs"].save(tmp_path / "organs.nii.gz")
    assert lies_on(SimpleITK.ReadImage(str(tmp_path / "organs.nii.gz")), label)
    assert tio.LabelMap(tmp_path / "organs.nii.gz").data.dtype == torch.int32


def test_monai_saves_every_label_in_its_place(stored, tmp_path):
    pytest.importorskip("monai", reason="monai is not installed: pip install ndvol[monai]")
    from monai.transforms import LoadImage, SaveImage

    from ndvol.monai import CaseReader

    label = LoadImage(reader=CaseReader(labels="organs"), dtype=np.int32)(stored)
    SaveImage(
        tmp_path,
        output_postfix="organs",
        output_dtype=np.int32,
        separate_folder=False,
        squeeze_end_dims=False,
        print_log=False,
    )(label)
    saved = SimpleITK.ReadImage(str(tmp_path / "a_organs.nii.gz"))
    assert lies_on(saved, ndvol.open_case(stored).labels["organs"])


def lies_on(saved, label):
    """A file holds the voxels of a label volume, each at its place in the world, in whatever order."""
    own = to_sitk(label)
    back = SimpleITK.Resample(saved, own, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 7.0, own.GetPixelID())
    return saved.GetNumberOfPixels() == label[...].size and np.array_equal(
        SimpleITK.GetArrayFromImage(back), label[...]
    )
