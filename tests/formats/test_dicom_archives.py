"""DICOM in archives is what it is in a folder, and no archive can do harm."""

import gzip
import io
import struct
import tarfile
import zipfile

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import members
from ndvol.formats.dicom import DicomReader
from ndvol.formats.dicom_archives import DicomArchiveReader
from ndvol.formats.writing import DicomOptions, write_dicom_series
from ndvol.geometry import Window
from ndvol.importing import ImportOptions, import_tree

READER = DicomArchiveReader()
KINDS = ["zip", "stored.zip", "tar", "tar.gz", "tgz"]


def pack(file, entries):
    """`entries`: (name, content) in order; the kind by the suffix of `file`."""
    if file.name.endswith("zip"):
        method = zipfile.ZIP_STORED if "stored" in file.name else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in entries:
                archive.writestr(name, content)
        return file
    with tarfile.open(file, "w" if file.name.endswith("tar") else "w:gz") as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


@pytest.fixture
def folder(tmp_path, voxels, oblique):
    """Two series and a text, as a folder beside the archives."""
    write_dicom_series(tmp_path / "folder" / "one", voxels, oblique)
    write_dicom_series(
        tmp_path / "folder" / "two",
        voxels[:4] + 7,
        oblique.crop(Window((0, 0, 0), (4, 5, 4))),
        DicomOptions(seed="two"),
    )
    (tmp_path / "folder" / "readme.txt").write_text("text")
    return tmp_path / "folder"


def entries_of(folder, order=1):
    files = sorted(p for p in folder.rglob("*") if p.is_file())[::order]
    return [(f"study/{p.relative_to(folder).as_posix()}", p.read_bytes()) for p in files]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_read_like_the_folder(tmp_path, folder, scan, kind):
    root = tmp_path / "archives"
    root.mkdir()
    pack(root / f"a.{kind}", entries_of(folder, order=-1))
    found, plain = scan(READER, root), scan(DicomReader(), folder)
    assert len(found.series) == len(plain.series) == 2
    assert found.claimed == {f"a.{kind}"}
    for ours, theirs in zip(found.series, plain.series, strict=True):
        assert (ours.source, ours.files) == (f"a.{kind}!/study/{theirs.source}", (f"a.{kind}",))
        assert (ours.name, ours.uid, ours.frame, ours.modality) == (
            theirs.name, theirs.uid, theirs.frame, theirs.modality
        )  # fmt: skip
        one, two = READER.read(root, ours), DicomReader().read(folder, theirs)
        np.testing.assert_array_equal(one.array, two.array)
        assert (one.grid, one.attributes, one.warnings) == (two.grid, two.attributes, two.warnings)
    [verdict] = found.verdicts
    assert (verdict.source, verdict.status, verdict.files) == (f"a.{kind}", "skipped", 1)
    assert {p.name for p in root.iterdir()} == {f"a.{kind}"}


def test_an_import_of_an_archive_holds_what_that_of_the_folder_holds(tmp_path, folder):
    root = tmp_path / "archives"
    root.mkdir()
    pack(root / "a.zip", entries_of(folder))
    one, two = (import_tree(source, tmp_path / f"b-{source.name}") for source in (root / "a.zip", folder))
    assert set(one) == set(two)
    assert len(one) == 2
    for name in one:
        first, second = one[name].images["CT"], two[name].images["CT"]
        np.testing.assert_array_equal(first[...], second[...])
        assert first.grid == second.grid
    again = import_tree(root / "a.zip", tmp_path / "b-a.zip")
    assert {v.status for v in again.verdicts} == {"unchanged", "skipped"}


def test_strict_names_nothing_of_an_archive(tmp_path, folder, capfd):
    root = tmp_path / "in"
    root.mkdir()
    pack(root / "MUELLER.zip", [(f"MUELLER/{n}", c) for n, c in entries_of(folder)])
    bundle = tmp_path / "out"
    verdicts = import_tree(root, bundle, options=ImportOptions(phi="strict")).verdicts
    assert verdicts
    texts = [p.read_bytes() for p in bundle.rglob("*") if p.is_file()] + [repr(verdicts).encode()]
    texts += [part.encode() for part in capfd.readouterr()]
    assert not any(b"MUELLER" in text for text in texts)


def test_structures_inside_are_labels_of_their_image(tmp_path, folder):
    images = [pydicom.dcmread(p) for p in sorted((folder / "one").iterdir())]
    segments = np.zeros((len(images), 5, 4), np.uint8)
    segments[2:4, 1:3, 1:3] = 1
    description = highdicom.seg.SegmentDescription(
        1, "liver", codes.SCT.Organ, codes.SCT.Liver, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    )
    seg = highdicom.seg.Segmentation(
        images, segments, "BINARY", [description], generate_uid(), 1, generate_uid(), 1, "a", "b", "1", "c"
    )
    seg.save_as(folder / "one" / "seg.dcm")
    root = tmp_path / "in"
    root.mkdir()
    pack(root / "a.tar.gz", entries_of(folder / "one"))
    [case] = import_tree(root, tmp_path / "out").values()
    [label] = case.labels.values()
    assert list(label.categories.values()) == ["liver"]
    assert int((label[...] != 0).sum()) == 8


def test_copies_inside_are_told(tmp_path, folder, scan):
    entries = entries_of(folder / "one")
    root = tmp_path / "archives"
    root.mkdir()
    pack(root / "a.zip", [*entries, (f"other/{entries[0][0]}", entries[0][1])])
    [series] = scan(READER, root).series
    assert "1 copy of a slice" in series.warnings[0]


def test_compressed_pixels_inside(tmp_path, folder, scan, voxels):
    content = []
    for name, data in entries_of(folder / "one"):
        dataset = pydicom.dcmread(io.BytesIO(data))
        dataset.compress(pydicom.uid.RLELossless)
        out = io.BytesIO()
        dataset.save_as(out)
        content.append((name, out.getvalue()))
    root = tmp_path / "archives"
    root.mkdir()
    pack(root / "a.zip", content)
    [series] = scan(READER, root).series
    np.testing.assert_array_equal(READER.read(root, series).array, voxels)


def test_gzipped_files_inside(tmp_path, folder, scan, voxels):
    root = tmp_path / "archives"
    root.mkdir()
    pack(root / "a.tar", [(f"{n}.gz", gzip.compress(c)) for n, c in entries_of(folder / "one")])
    [series] = scan(READER, root).series
    np.testing.assert_array_equal(READER.read(root, series).array, voxels)


def test_archives_without_dicom_are_left_alone(tmp_path, scan):
    pack(tmp_path / "a.zip", [("a.txt", b"text"), ("b.nii", b"x" * 400)])
    pack(tmp_path / "b.tar", [])
    found = scan(READER, tmp_path)
    assert (found.series, found.verdicts, found.claimed) == ((), (), frozenset())


def test_archives_in_archives_are_refused(tmp_path, folder, scan):
    inner = pack(tmp_path / "inner.zip", entries_of(folder / "two")).read_bytes()
    root = tmp_path / "archives"
    root.mkdir()
    # The zip comes last: its end record is near the end of the tar.
    pack(root / "a.tar", [*entries_of(folder / "one"), ("more/inner.zip", inner)])
    found = scan(READER, root)
    assert len(found.series) == 1
    assert [(v.source, v.code) for v in found.verdicts if v.status == "refused"] == [
        ("a.tar!/more/inner.zip", "nested-archive")
    ]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x", "C:x", "a\\b"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_refused(tmp_path, refusal, name, kind):
    pack(tmp_path / f"a.{kind}", [("ok", b"x"), (name, b"x")])
    assert refusal(READER, tmp_path)[0] == "path-escape"
    assert [p.name for p in tmp_path.rglob("*")] == [f"a.{kind}"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_one_name_twice_is_refused(tmp_path, refusal, kind):
    pack(tmp_path / f"a.{kind}", [("x", b"1"), ("./x" if kind == "tar" else "x", b"2")])
    assert refusal(READER, tmp_path)[0] == "duplicate-member"


def test_links_and_devices_are_passed_over(tmp_path, folder, scan, voxels):
    file = tmp_path / "a.tar"
    with tarfile.open(file, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"link-{kind.decode()}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for name, content in entries_of(folder / "one"):
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = READER.scan(tmp_path, ["a.tar"])
    assert not found.verdicts
    np.testing.assert_array_equal(READER.read(tmp_path, found.series[0]).array, voxels)


def test_encrypted_archives_are_refused(tmp_path, refusal, folder):
    file = pack(tmp_path / "a.zip", entries_of(folder))
    data = bytearray(file.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    file.write_bytes(data)
    for part in folder.rglob("*"):
        if part.is_file():
            part.unlink()
    assert refusal(READER, tmp_path)[0] == "encrypted"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused(tmp_path, refusal, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a", b"x")
    assert refusal(READER, tmp_path)[0] == "encoding"


class TestLimits:
    DICOM = b"\0" * 128 + b"DICM"

    @pytest.mark.parametrize("kind", ["zip", "tar.gz"])
    def test_a_bomb_is_refused(self, tmp_path, scan, monkeypatch, kind):
        monkeypatch.setattr(members, "FREE_INFLATED", 2**16)
        pack(tmp_path / f"a.{kind}", [("a.dcm", self.DICOM + bytes(2**24))])
        [verdict] = scan(READER, tmp_path).verdicts
        assert (verdict.status, verdict.code) == ("refused", "too-large")

    @pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
    def test_too_many_files_are_refused(self, tmp_path, refusal, monkeypatch, kind):
        monkeypatch.setattr(members, "MAX_MEMBERS", 9)
        pack(tmp_path / f"a.{kind}", [(f"{k}", b"x") for k in range(10)])
        assert refusal(READER, tmp_path)[0] == "too-large"

    def test_a_huge_directory_is_refused_unread(self, tmp_path, refusal, monkeypatch):
        pack(tmp_path / "a.zip", [(f"{k}", b"x") for k in range(10)])
        monkeypatch.setattr(members, "MAX_DIRECTORY", 400)
        monkeypatch.setattr(zipfile, "ZipFile", None)
        assert refusal(READER, tmp_path)[0] == "too-large"

    def test_a_huge_declared_file_is_refused(self, tmp_path, refusal):
        file = pack(tmp_path / "a.zip", [("a.dcm", self.DICOM)])
        data = bytearray(file.read_bytes())
        at = data.index(b"PK\x01\x02") + 24
        data[at : at + 4] = struct.pack("<I", 2**31 + 1)
        file.write_bytes(data)
        assert refusal(READER, tmp_path)[0] == "too-large"

    @pytest.mark.parametrize("size", [132, 140, 10_000])
    def test_a_false_size_is_an_error(self, tmp_path, scan, size):
        file = pack(tmp_path / "a.zip", [("a.dcm", self.DICOM + b"12345")])
        data = bytearray(file.read_bytes())
        at = data.index(b"PK\x01\x02") + 24
        data[at : at + 4] = struct.pack("<I", size)
        file.write_bytes(data)
        verdicts = scan(READER, tmp_path).verdicts
        assert [(v.source, v.code) for v in verdicts] == [("a.zip!/a.dcm", "archive")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_an_error_or_changes_nothing(tmp_path, folder, scan, kind, voxels):
    """But in a plain tar, which has no checksums, as a folder has none."""
    root = tmp_path / "archives"
    root.mkdir()
    file = pack(root / f"a.{kind}", entries_of(folder / "one"))
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for round_ in range(40):
        damaged = bytearray(data[: rng.integers(len(data))] if round_ % 4 == 0 else data)
        if round_ % 4:
            damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        found = scan(READER, root)
        for series in found.series:
            try:
                array = READER.read(root, series).array
            except NdvolError:
                continue
            assert array.shape == series.shape
            if kind == "tar":
                continue
            if array.shape != voxels.shape:
                # The first or last file is damaged, and the others say so, as in a folder.
                assert found.verdicts
                assert "could not be read" in series.warnings[0]
            else:
                np.testing.assert_array_equal(array, voxels)


def test_an_archive_that_changed_is_noticed(tmp_path, folder, scan):
    root = tmp_path / "archives"
    root.mkdir()
    entries = entries_of(folder / "one")
    pack(root / "a.zip", entries)
    [series] = scan(READER, root).series
    pack(root / "a.zip", entries[1:])
    with pytest.raises(SourceError) as caught:
        READER.read(root, series)
    assert caught.value.code == "changed"


def test_only_a_file_is_an_archive(tmp_path):
    (tmp_path / "odd!").mkdir()
    (tmp_path / "odd!" / "x").write_bytes(b"plain")
    assert members.split(tmp_path / "odd!" / "x") is None
    pack(tmp_path / "odd!" / "a.zip", [("b!/x", b"inside")])
    assert members.split(tmp_path / "odd!" / "a.zip!" / "b!" / "x") == (tmp_path / "odd!" / "a.zip", "b!/x")
    with members.open_source(tmp_path / "odd!" / "a.zip!" / "b!" / "x") as stream:
        assert stream.read() == b"inside"
