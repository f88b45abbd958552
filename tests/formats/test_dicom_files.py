"""DICOM files by the thousand, packed ones, and archives of them."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from ndvol.errors import SourceError
from ndvol.formats import dicom_deflate, dicom_files, dicom_pixels, readers
from ndvol.formats.archives import archive_kind, archive_verdict
from ndvol.formats.dicom import DicomReader
from ndvol.formats.writing import write_dicom_series, write_nifti
from ndvol.geometry import Grid

READER = DicomReader()


def gzipped(file, data=None):
    packed = file.with_name(f"{file.name}.gz")
    packed.write_bytes(gzip.compress(file.read_bytes() if data is None else data, mtime=0))
    file.unlink()
    return packed


@pytest.fixture
def ct(tmp_path, voxels, oblique):
    return write_dicom_series(tmp_path / "ct", voxels, oblique)


# Packed by gzip.


def test_gzipped_files_are_read(tmp_path, ct, voxels, oblique, read_one, scan):
    for file in ct:
        gzipped(file)
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, voxels)
    assert volume.grid.matches(oblique)
    assert scan(READER, tmp_path).series[0].files[0] == "ct/IM0001.dcm.gz"


def test_other_gzip_files_are_left_alone(tmp_path, ct, voxels, oblique, scan):
    write_nifti(tmp_path / "a.nii.gz", voxels, oblique)
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"text" * 100))
    (tmp_path / "c.gz").write_bytes(b"\x1f\x8b no gzip")
    assert not {"a.nii.gz", "b.gz", "c.gz"} & scan(READER, tmp_path).claimed


@pytest.mark.parametrize("fault", ["absolute", "ratio", "cut", "checksum", "members", "deflated"])
def test_gzip_that_cannot_be_inflated_is_refused(tmp_path, ct, scan, monkeypatch, fault):
    if fault == "deflated":
        dataset = pydicom.dcmread(ct[0])
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(ct[0])
    file = gzipped(ct[0], ct[0].read_bytes() + bytes(10**6) if fault == "ratio" else None)
    data = file.read_bytes()
    if fault == "absolute":
        monkeypatch.setattr(dicom_deflate, "MAX_INFLATED", 500)
    elif fault == "ratio":
        monkeypatch.setattr(dicom_deflate, "FREE_INFLATED", 1000)
    elif fault == "cut":
        file.write_bytes(data[:-12])
    elif fault == "checksum":
        file.write_bytes(data[:-8] + bytes(4) + data[-4:])
    elif fault == "members":
        file.write_bytes(data + data)
    verdict = scan(READER, tmp_path).verdicts[0]
    assert (verdict.source, verdict.status, verdict.code) == ("ct/IM0001.dcm.gz", "refused", "gzip")
    assert "gunzip" in verdict.message


def test_a_blank_slice_may_pack_better_than_the_ratio(tmp_path, read_one):
    blank = np.zeros((3, 512, 512), np.int16)
    grid = Grid.regular("zyx", blank.shape, spacing=(1, 1, 1), frame="LPS", unit="mm")
    for file in write_dicom_series(tmp_path, blank, grid):
        size = file.stat().st_size
        assert gzipped(file).stat().st_size * dicom_deflate.MAX_RATIO < size
    assert not read_one(READER, tmp_path).array.any()


def test_a_gzipped_structure_is_left_to_its_reader(tmp_path, ct, scan, edit):
    edit(ct[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3")
    file = gzipped(ct[0])
    path = file.relative_to(tmp_path).as_posix()
    assert path not in scan(READER, tmp_path).claimed
    assert path in scan(readers()["dicom-rtstruct"], tmp_path).claimed


# Archives.


def archives(folder, payload):
    """One of each kind; 7z and rar by their first bytes, for nothing here writes them."""
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("IM0001.dcm", payload)
    for name, mode in (("b.tar", "w"), ("c.tgz", "w:gz"), ("d.tar.bz2", "w:bz2"), ("e.tar.xz", "w:xz")):
        with tarfile.open(folder / name, mode) as file:
            info = tarfile.TarInfo("IM0001.dcm")
            info.size = len(payload)
            file.addfile(info, io.BytesIO(payload))
    (folder / "f.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(50))
    (folder / "g.rar").write_bytes(b"Rar!\x1a\x07\x00" + bytes(50))
    return dict(zip("abcdefg", ("zip", "tar", "tar", "tar", "tar", "7z", "rar"), strict=True))


def test_archives_are_told_by_their_content(tmp_path, ct):
    expected = archives(tmp_path, ct[0].read_bytes())
    found = {p.name[0]: archive_kind(p) for p in tmp_path.iterdir() if p.is_file()}
    assert found == expected
    verdict = archive_verdict(tmp_path, "a.zip")
    assert (verdict.status, verdict.code) == ("refused", "archive")
    assert "unpack it first" in verdict.message


def test_one_reader_takes_archives(tmp_path, ct, scan):
    names = [f"{k}" for k in archives(tmp_path, ct[0].read_bytes())]
    for reader in readers().values():
        taken = {f[0] for f in scan(reader, tmp_path).claimed if f[0] in names and "/" not in f}
        assert taken == ({"a", "b", "c"} if reader.name == "dicom-archives" else set())


@pytest.mark.parametrize("first", ["[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF"])
def test_documents_are_no_archives(tmp_path, first):
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as file:
        file.writestr(first, "text")
    (tmp_path / "notes.txt").write_text("PK is not enough")
    (tmp_path / "empty").write_bytes(b"")
    assert [archive_verdict(tmp_path, n) for n in ("a.docx", "notes.txt", "empty", "gone")] == [None] * 4


# Many files.


@pytest.fixture
def mixed(tmp_path, ct, voxels, oblique, edit):
    """Every kind of outcome: a series, a refusal, a skipped file, a damaged one, a copy, and no DICOM."""
    write_dicom_series(tmp_path / "b", voxels, oblique)[2].unlink()
    edit(write_dicom_series(tmp_path / "c", voxels, oblique)[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0\xff\xff\xff\x7f" + b"\xff" * 50)
    (tmp_path / "notes.txt").write_text("text")
    return sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())


def test_any_number_of_jobs_finds_the_same(tmp_path, mixed, monkeypatch):
    alone = READER.scan(tmp_path, mixed)
    assert alone.verdicts
    monkeypatch.setattr(dicom_files, "FEWEST", 5)
    started = []
    pool = dicom_files.ProcessPoolExecutor
    monkeypatch.setattr(dicom_files, "ProcessPoolExecutor", lambda n, **how: started.append(n) or pool(n, **how))
    assert READER.scan(tmp_path, mixed, jobs=2) == alone
    assert started == [2]


def test_few_files_start_no_process(tmp_path, mixed, monkeypatch):
    monkeypatch.setattr(dicom_files, "ProcessPoolExecutor", None)
    assert READER.scan(tmp_path, mixed, jobs=8) == READER.scan(tmp_path, mixed)
    monkeypatch.setattr(dicom_files, "FEWEST", 5)
    assert READER.scan(tmp_path, mixed, jobs=1) == READER.scan(tmp_path, mixed)


def test_a_broken_pool_costs_only_time(tmp_path, mixed, monkeypatch):
    class Broken:
        def __init__(self, *_, **__):
            raise dicom_files.BrokenProcessPool

    monkeypatch.setattr(dicom_files, "FEWEST", 5)
    monkeypatch.setattr(dicom_files, "ProcessPoolExecutor", Broken)
    assert READER.scan(tmp_path, mixed, jobs=2) == READER.scan(tmp_path, mixed)


def test_every_reader_takes_jobs(tmp_path, mixed):
    for reader in readers().values():
        assert reader.scan(tmp_path, mixed, jobs=2) == reader.scan(tmp_path, mixed)


# Decoders.


@pytest.mark.parametrize("columns", [63, 64])
def test_gdcm_never_sees_rle(tmp_path, read_one, monkeypatch, columns):
    """GDCM ends the process on some RLE frames of odd length."""
    truth = np.random.default_rng(0).integers(0, 256, (3, 1, columns)).astype(np.uint16)
    grid = Grid.regular("zyx", truth.shape, spacing=(1, 1, 1), frame="LPS", unit="mm")
    for file in write_dicom_series(tmp_path, truth, grid):
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        dataset.save_as(file)
    plugins = []
    decode = dicom_pixels.pixel_array
    monkeypatch.setattr(
        dicom_pixels, "pixel_array", lambda *a, **k: plugins.append(k["decoding_plugin"]) or decode(*a, **k)
    )
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, truth)
    assert plugins == ["pydicom"] * 3


def test_damaged_rle_is_an_error(tmp_path, scan):
    truth = np.random.default_rng(0).integers(0, 256, (3, 1, 63)).astype(np.uint16)
    grid = Grid.regular("zyx", truth.shape, spacing=(1, 1, 1), frame="LPS", unit="mm")
    for file in write_dicom_series(tmp_path, truth, grid):
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = pydicom.encaps.encapsulate([frame[:70]])
        dataset.save_as(file)
    with pytest.raises(SourceError) as caught:
        READER.read(tmp_path, scan(READER, tmp_path).series[0])
    assert caught.value.code == "undecodable"
