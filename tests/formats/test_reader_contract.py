"""Promises that every reader keeps."""

import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import cv2
import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from ndvol.catalog import Catalog
from ndvol.categories import CategoryTree
from ndvol.errors import NdvolError
from ndvol.exporting import export_slices
from ndvol.formats import Series, readers
from ndvol.formats.arrays import ArrayReader
from ndvol.formats.dicom import DicomReader
from ndvol.formats.dicom_archives import DicomArchiveReader
from ndvol.formats.hdf5_files import Hdf5Reader
from ndvol.formats.itk_images import ItkReader
from ndvol.formats.neuro import NeuroReader
from ndvol.formats.nifti import NiftiReader
from ndvol.formats.pictures import PictureReader
from ndvol.formats.slices import SliceReader
from ndvol.formats.video import VideoReader
from ndvol.formats.writing import write_dicom_series, write_nifti, write_pictures
from ndvol.importing.record import describe_case
from ndvol.opening import open_case
from ndvol.store import CaseWriter


def _write(name, root, voxels, grid):
    if name == "dicom":
        write_dicom_series(root / "ct", voxels, grid)
    elif name == "nifti":
        write_nifti(root / "ct.nii", voxels, grid)
        write_nifti(root / "packed" / "ct.nii.gz", voxels, grid)
    elif name == "itk":
        image = SimpleITK.GetImageFromArray(voxels)
        for file, packed in (("a.nrrd", True), ("b.mha", True), ("c.nhdr", False), ("d.mhd", False), ("e.mha", False)):
            SimpleITK.WriteImage(image, root / file, packed)
    elif name == "neuro":
        for file in ("a.mgh", "b.mgz"):
            nibabel.save(nibabel.MGHImage(voxels.T, grid.nifti_affine), root / file)
    elif name == "dicom-archives":
        files = write_dicom_series(root / "ct", voxels, grid)
        for file, mode in (("b.tar", "w"), ("c.tgz", "w:gz")):
            with tarfile.open(root / file, mode) as archive:
                archive.add(root / "ct", "ct")
        with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.name)
        shutil.rmtree(root / "ct")
    elif name == "hdf5":
        with h5py.File(root / "a.h5", "w") as file:
            file.create_dataset("voxels", data=voxels, chunks=(3, 3, 3), compression="gzip", fletcher32=True)
        with h5py.File(root / "b.hdf5", "w") as file:
            file["reconstruction_rss"] = voxels.astype(np.float32)
        with h5py.File(root / "c.h5", "w") as file:
            file["s00/resolutions"] = np.ones((1, 3))
            for t in range(2):
                file[f"t{t:05d}/s00/0/cells"] = voxels
    elif name == "video":
        grey = (voxels + 300).astype(np.uint8)
        writer = cv2.VideoWriter(str(root / "a.avi"), cv2.VideoWriter_fourcc(*"FFV1"), 10, (64, 64), False)
        for plane in np.pad(grey, ((0, 0), (0, 59), (0, 60))):
            writer.write(plane)
        writer.release()
        frames = [Image.fromarray(plane) for plane in grey]
        for file in ("b.gif", "c.png", "d.webp"):
            frames[0].save(root / file, save_all=True, append_images=frames[1:], lossless=True)
    elif name == "kwcoco":
        path = root / "case.h5"
        with CaseWriter(path, case="ct", uuid="ct") as writer:
            writer.add_image("CT", voxels, grid)
            writer.add_image("PET", (voxels + 300).astype(np.uint8), grid)
            writer.set_provenance({})
        record = describe_case(path, "known", CategoryTree((), (), ()))
        export_slices(Catalog({"ct": record}, CategoryTree((), (), ()), open_case), root / "slices")
        path.unlink()
    elif name == "arrays":
        np.save(root / "a.npy", voxels)
        np.savez_compressed(root / "b.npz", voxels=voxels.astype(">i2"))
    else:
        write_pictures(root / "a", (voxels + 300).astype(np.uint8))
        write_pictures(root / "b", (voxels + 300).astype(np.uint16), suffix=".tif")


@pytest.fixture(
    params=[
        ArrayReader,
        DicomArchiveReader,
        DicomReader,
        Hdf5Reader,
        ItkReader,
        NeuroReader,
        NiftiReader,
        PictureReader,
        SliceReader,
        VideoReader,
    ],
    ids=lambda r: r.name,
)
def reader(request, hdf5_in_this_process):
    return request.param()


@pytest.fixture
def root(reader, tmp_path, voxels, oblique):
    _write(reader.name, tmp_path, voxels, oblique)
    return tmp_path


class TestContract:
    def test_is_installed_under_its_name(self, reader):
        assert isinstance(readers()[reader.name], type(reader))

    def test_scan_is_deterministic_and_pure(self, reader, root, scan):
        before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
        found = scan(reader, root)
        assert found.series
        assert found == scan(reader, root)
        assert {f for s in found.series for f in s.files} <= found.claimed
        assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before

    def test_series_survives_a_pickle(self, reader, root, scan):
        for series in scan(reader, root).series:
            assert pickle.loads(pickle.dumps(series)) == series

    def test_read_gives_what_the_scan_promised(self, reader, root, scan):
        for series in scan(reader, root).series:
            volume = reader.read(root, series)
            assert volume.array.shape == volume.grid.shape == series.shape
            assert volume.grid.axes == series.axes
            assert volume.array.dtype == series.dtype
            assert volume.array.dtype.isnative
            volume.array[...] = 0  # the caller owns it

    def test_reading_twice_gives_equal_volumes(self, reader, root, scan):
        for series in scan(reader, root).series:
            one, two = reader.read(root, series), reader.read(root, series)
            np.testing.assert_array_equal(one.array, two.array)
            assert one.grid == two.grid

    def test_an_empty_tree_holds_nothing(self, reader, tmp_path_factory, scan):
        found = scan(reader, tmp_path_factory.mktemp("empty"))
        assert (found.series, found.verdicts, found.claimed) == ((), (), frozenset())

    def test_foreign_files_are_not_claimed(self, reader, root, scan):
        for name in ("notes.txt", "data.kwcoco.json", ".DS_Store", "Thumbs.db", "._slice001.png", "empty"):
            (root / name).write_bytes(b"" if name == "empty" else b"text, not an image")
        assert not {"notes.txt", "data.kwcoco.json", ".DS_Store", "Thumbs.db", "empty"} & scan(reader, root).claimed

    def test_a_file_that_vanished_is_an_ndvol_error(self, reader, root, scan):
        series = scan(reader, root).series[0]
        (root / series.files[0]).unlink()
        with pytest.raises(NdvolError):
            reader.read(root, series)

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 0.999])
    def test_truncated_files_end_in_verdicts_or_errors(self, reader, root, scan, share):
        truth = {s.source: reader.read(root, s).array for s in scan(reader, root).series}
        for file in _files(root):
            data = file.read_bytes()
            file.write_bytes(data[: int(share * len(data))])
        self._reads_cleanly(reader, root, scan, truth)

    def test_damaged_files_end_in_verdicts_or_errors(self, reader, root, scan):
        rng = np.random.default_rng(0)
        originals = {file: file.read_bytes() for file in _files(root)}
        for _ in range(15):
            for file, data in originals.items():
                damaged = bytearray(data)
                for at in rng.integers(0, min(len(data), 1200), 6):
                    damaged[at] = rng.integers(256)
                file.write_bytes(damaged)
            self._reads_cleanly(reader, root, scan)

    def test_random_bytes_end_in_verdicts_or_errors(self, reader, root, scan):
        rng = np.random.default_rng(1)
        for k, file in enumerate(_files(root)):
            magic = file.read_bytes()[: (0, 4, 132, 160, 400)[k % 5]]
            file.write_bytes(magic + rng.bytes(1000))
        self._reads_cleanly(reader, root, scan)

    def _reads_cleanly(self, reader, root, scan, truth=None):
        found = scan(reader, root)
        for series in found.series:
            assert isinstance(series, Series)
            try:
                volume = reader.read(root, series)
            except NdvolError:
                continue
            assert volume.array.shape == volume.grid.shape
            if truth:  # what was cut off can only have been a trailer
                np.testing.assert_array_equal(volume.array, truth[series.source])


def _files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file())
