"""What a published file promises: whole or absent, the same bytes again, damage found, nothing read outside it."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from ndvol.errors import (
    DamageError,
    NdvolError,
    OptionError,
    StorageFullError,
    StoreError,
    UnknownNameError,
    UnsafeFileError,
)
from ndvol.geometry import Grid, Reorientation, Window
from ndvol.label_index import count_chunks
from ndvol.store import (
    CaseWriter,
    Hdf5Source,
    file_sha256,
    forget,
    open_case,
    open_hdf5,
    read_identity,
    read_objects,
    read_provenance,
    verify,
    verify_file,
)

SHAPE = (40, 50, 60)


def toy_arrays():
    rng = np.random.default_rng(3)
    image = (rng.normal(size=SHAPE) * 40).astype(np.int16)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 3:12, 40:55] = 1
    labels[33:37, 40:48, 2:9] = 2
    labels[0, 0, 0] = 2
    return image, labels


def write_toy(path):
    image, labels = toy_arrays()
    grid = Grid("zyx", SHAPE, [[0.1, 0, 0.7, -20], [0, 0.7, 0.1, 5.5], [2.5, 0, 0, 100], [0, 0, 0, 1]])
    turn = Reorientation((0, 1, 2), (True, False, False))
    with CaseWriter(path, case="toy", uuid="1234") as writer:
        writer.add_image("CT", image, grid, reorientation=turn, attributes={"modality": "CT", "RescaleSlope": 1.0})
        writer.add_label("organs", labels, grid, categories={1: "liver", 2: "lesion"})
        writer.add_label("empty", np.zeros(SHAPE, np.uint8), grid, categories={1: "spleen"})
        writer.set_provenance({"sources": ["ä"]})
    return grid


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.h5"
    write_toy(path)
    return path


def test_a_case_comes_back_as_it_was_written(tmp_path):
    image, labels = toy_arrays()
    grid = write_toy(tmp_path / "toy.h5")
    case = open_case(tmp_path / "toy.h5")
    assert case.name == "toy"
    assert case.images["CT"].grid == grid
    assert case.images["CT"].attributes == {
        "modality": "CT",
        "RescaleSlope": 1.0,
        "reorientation": {"order": [0, 1, 2], "flips": [True, False, False]},
    }
    np.testing.assert_array_equal(case.images["CT"], image)
    np.testing.assert_array_equal(case.labels["organs"], labels)
    assert case.labels["organs"].categories == {1: "liver", 2: "lesion"}
    assert not np.asarray(case.labels["empty"]).any()
    assert case.labels["empty"].index.values == ()
    assert read_provenance(tmp_path / "toy.h5") == {"sources": ["ä"]}
    assert read_identity(tmp_path / "toy.h5")["uuid"] == "1234"


def test_the_file_says_what_format_md_says(toy):
    """Plain h5py, without ndvol, finds everything; every chunk has a checksum; strings are of fixed length."""
    image, labels = toy_arrays()
    with h5py.File(toy, "r") as file:
        assert file.attrs["ndvol_format"].decode() == "1.2"
        np.testing.assert_array_equal(file["images/CT/0"], image)
        np.testing.assert_array_equal(file["labels/organs/0"], labels)
        table = file["labels/organs/index/counts"][...]
        np.testing.assert_array_equal(table, count_chunks(labels, file["labels/organs/0"].chunks))
        names = []
        file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
        assert all(file[name].fletcher32 for name in names)
        for name in ["/", "images/CT", "labels/organs", "manifest"]:
            for key in file[name].attrs:
                kind = h5py.check_string_dtype(file[name].attrs.get_id(key).dtype)
                assert kind is None or kind.length is not None, (name, key)
        # Chunks of background alone are never written.
        counts = np.prod([-(-n // c) for n, c in zip(SHAPE, file["labels/organs/0"].chunks, strict=True)])
        assert 0 < file["labels/organs/0"].id.get_num_chunks() < counts
        assert json.loads(file["provenance"][...].tobytes()) == {"sources": ["ä"]}


def test_objects_are_components_with_exact_boxes(toy):
    assert read_objects(toy, "organs").tolist() == [
        [1, 7 * 9 * 15, 2, 3, 40, 9, 12, 55],
        [2, 1, 0, 0, 0, 1, 1, 1],
        [2, 4 * 8 * 7, 33, 40, 2, 37, 48, 9],
    ]
    assert read_objects(toy, "empty").shape == (0, 8)


def test_the_same_content_makes_the_same_bytes(tmp_path):
    write_toy(tmp_path / "a.h5")
    time.sleep(1.1)
    environment = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "LANG": "C"}
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_files as t; "
    subprocess.run(
        [sys.executable, "-c", code + f"t.write_toy({str(tmp_path / 'b.h5')!r})"], check=True, env=environment
    )
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def flipped(path, target, rng, positions=None):
    raw = bytearray(path.read_bytes())
    position = int(rng.integers(len(raw))) if positions is None else int(rng.choice(positions))
    raw[position] ^= 1 << int(rng.integers(8))
    target.write_bytes(raw)
    return position


def reads_right_or_raises(path):
    image, labels = toy_arrays()
    try:
        case = open_case(path)
        # array_equal would take an error for a difference.
        stored = np.asarray(case.images["CT"]), np.asarray(case.labels["organs"])
        same = np.array_equal(stored[0], image) and np.array_equal(stored[1], labels)
        return same and case.labels["organs"].index.count(1) == (labels == 1).sum()
    except NdvolError:
        return True


def read_all(path):
    case = open_case(path)
    return np.asarray(case.images["CT"]), np.asarray(case.labels["organs"]), case.labels["organs"].index.count(1)


def flip_campaign(toy, folder, n):
    rng = np.random.default_rng(11)
    sha256 = file_sha256(toy)
    raw = np.frombuffer(toy.read_bytes(), np.uint8)
    metadata = np.flatnonzero(raw)[:6000]
    for k in range(n):
        path = folder / f"{k}.h5"
        position = flipped(toy, path, rng, positions=metadata if k % 2 else None)
        assert verify_file(path, sha256=sha256), f"verify missed a flip at byte {position}"
        assert reads_right_or_raises(path), f"wrong voxels after a flip at byte {position}"
        path.unlink()


def test_no_flipped_bit_goes_unnoticed(toy, tmp_path):
    flip_campaign(toy, tmp_path, 60)


@pytest.mark.slow
def test_no_flipped_bit_goes_unnoticed_two_thousand_times(toy, tmp_path):
    flip_campaign(toy, tmp_path, 2000)


def chunk_infos(path, dataset):
    with h5py.File(path, "r") as file:
        node = file[dataset].id
        return [node.get_chunk_info(i) for i in range(node.get_num_chunks())]


def test_verify_finds_what_a_checksum_in_the_chunk_cannot(toy, tmp_path):
    raw = toy.read_bytes()
    first, second = chunk_infos(toy, "images/CT/0")[:2]
    zeroed = bytearray(raw)
    zeroed[first.byte_offset : first.byte_offset + first.size] = bytes(first.size)
    path = tmp_path / "zeroed.h5"
    path.write_bytes(zeroed)
    [damage] = verify_file(path)
    assert (damage.dataset, damage.box.start) == ("images/CT/0", first.chunk_offset)
    # A chunk of another file at the same place, checksum and all.
    if first.size == second.size:
        pytest.fail("the two chunks were meant to differ in size")
    with h5py.File(path, "w", libver=("v110", "v110")) as target, h5py.File(toy, "r") as source:
        for name in source:
            source.copy(name, target)
        for key, value in source.attrs.items():
            target.attrs[key] = value
        data = source["images/CT/0"].id.read_direct_chunk(second.chunk_offset)[1]
        target["images/CT/0"].id.write_direct_chunk(first.chunk_offset, data)
    assert ("images/CT/0", first.chunk_offset) in [(d.dataset, d.box.start) for d in verify_file(path) if d.box]


def test_a_lost_and_an_added_chunk_are_found(toy, tmp_path):
    path = tmp_path / "added.h5"
    path.write_bytes(toy.read_bytes())
    with h5py.File(path, "r+") as file:
        stored = {i.chunk_offset for i in chunk_infos(toy, "labels/organs/0")}
        empty = next(
            at for at in np.ndindex(2, 2, 2) if tuple(np.array(at) * file["labels/organs/0"].chunks) not in stored
        )
        chunk = file["labels/organs/0"].chunks
        file["labels/organs/0"][tuple(slice(a * c, a * c + 1) for a, c in zip(empty, chunk, strict=True))] = 1
    assert "a chunk is there that was never written" in [d.what for d in verify_file(path)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda file: file["images/CT"].attrs.modify("affine", np.eye(4)), "an attribute has changed"),
        (lambda file: file.copy("images/CT", "images/other"), "the data sets are not those that the manifest names"),
    ],
)
def test_verify_finds_changed_attributes_and_added_objects(toy, change, found):
    with h5py.File(toy, "r+") as file:
        change(file)
    assert found in [d.what for d in verify_file(toy)]


def test_large_attributes_are_covered(tmp_path):
    grid = Grid.regular("yx", (2, 2))
    with CaseWriter(tmp_path / "a.h5", case="a", uuid="") as writer:
        names = {v: f"cell-nucleus-{v}" for v in range(1, 4001)}
        writer.add_label("cells", np.eye(2, dtype=np.uint16), grid, categories=names)
    assert open_case(tmp_path / "a.h5").labels["cells"].categories[1234] == "cell-nucleus-1234"
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    raw[raw.index(b"cell-nucleus-1234")] ^= 1
    (tmp_path / "b.h5").write_bytes(raw)
    assert verify_file(tmp_path / "b.h5")


def replaced(name, **how):
    def change(file):
        del file[name]
        if how:
            file.create_dataset(name, **how)

    return change


@pytest.mark.parametrize(
    "change",
    [
        replaced("labels/organs/0"),
        replaced("images/CT", data=1),
        replaced("labels/organs/0", data=np.zeros(SHAPE, np.float32)),
        replaced("labels/organs/0", data=np.zeros(SHAPE, np.uint8)),
        replaced("labels/organs/index/counts", data=np.zeros(3, np.int64)),
        lambda file: file["labels/organs"].attrs.modify("categories", np.bytes_("[1]")),
    ],
)
def test_odd_structure_is_an_error_of_ours(toy, change):
    with h5py.File(toy, "r+") as file:
        change(file)
    # The contents say where the voxels were written, and there they still are.
    assert reads_right_or_raises(toy)
    assert verify_file(toy)
    with h5py.File(toy, "r+") as file:
        del file["contents"]
    with pytest.raises(NdvolError):
        open_case(toy).labels["organs"].index.count(1)
    assert verify_file(toy)


def test_an_empty_data_set_is_refused(tmp_path):
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["x"] = h5py.Empty("f4")
    with pytest.raises(StoreError, match="holds no numbers"):
        open_hdf5(tmp_path / "empty.h5", "x", axes="")


def test_a_manifest_of_absurd_size_is_not_read(toy):
    with h5py.File(toy, "r+") as file:
        del file["manifest"]
        file.create_dataset("manifest", (2**45, 3), "u8", chunks=(1024, 3))
    assert any("declares" in d.what for d in verify_file(toy))


def test_reading_damage_names_file_data_set_and_window(toy, tmp_path):
    info = chunk_infos(toy, "images/CT/0")[0]
    raw = bytearray(toy.read_bytes())
    raw[info.byte_offset + info.size // 2] ^= 4
    path = tmp_path / "damaged.h5"
    path.write_bytes(raw)
    with pytest.raises(DamageError, match="images/CT/0") as caught:
        open_case(path).images["CT"].read(Window((0, 0, 0), (4, 4, 4)))
    assert str(path) in str(caught.value)
    assert "chunk 0 of '/images/CT/0'" in str(caught.value)
    assert caught.value.window == Window((0, 0, 0), (32, 32, 32))


def test_a_chunk_that_is_whole_but_not_ours_is_refused_on_reading(toy, tmp_path):
    """Fletcher-32 cannot tell that two chunks were swapped; the manifest's hash can."""
    first, second = chunk_infos(toy, "images/CT/0")[:2]
    with h5py.File(toy, "r+") as file:
        dataset = file["images/CT/0"].id
        data = [dataset.read_direct_chunk(info.chunk_offset)[1] for info in (first, second)]
        dataset.write_direct_chunk(first.chunk_offset, data[1])
        dataset.write_direct_chunk(second.chunk_offset, data[0])
    with pytest.raises(DamageError, match="has other bytes than were written"):
        np.asarray(open_case(toy).images["CT"])


def test_a_lost_chunk_is_refused_on_reading(toy, tmp_path):
    """HDF5 would answer with its fill value. (Format 1.1 says where the chunk lies, so it is still found there.)"""
    with h5py.File(toy, "r+") as file:
        del file["chunks"]
        old = file["images/CT/0"]
        plist, shape = old.id.get_create_plist(), old.shape
        del file["images/CT/0"]
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file["images/CT"].id, b"0", h5py.h5t.STD_I16LE, space, plist)
    with pytest.raises(DamageError, match=r"chunk 0 .* is missing"):
        np.asarray(open_case(toy).images["CT"])


def test_a_table_of_chunks_that_is_wrong_is_refused_and_named(toy):
    """As in a file that h5repack has written anew."""
    with h5py.File(toy, "r+") as file:
        names = json.loads(file["manifest"].attrs["datasets"])
        file["chunks"][np.searchsorted(file["manifest"][:, 0], names.index("images/CT/0")), 0] += 8
    with pytest.raises(DamageError, match="has other bytes than were written"):
        np.asarray(open_case(toy).images["CT"])
    assert [d.what for d in verify_file(toy)] == ["a chunk lies elsewhere than the file says"]
    with h5py.File(toy, "r+") as file:
        rows = file["chunks"][:-1]
        del file["chunks"]
        file["chunks"] = rows
    with pytest.raises(DamageError, match="does not fit the manifest"):
        np.asarray(open_case(toy).images["CT"])
    assert verify_file(toy)


def test_a_manifest_with_a_chunk_too_many_is_refused(toy):
    with h5py.File(toy, "r+") as file:
        file["manifest"][-1, 1] = 10**9
        name = json.loads(file["manifest"].attrs["datasets"])[-1]
    with pytest.raises(DamageError, match="does not have"):
        Hdf5Source(toy, (name,)).read_into(Window((0,), (1,)), np.empty(1, np.uint8))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_file_of_an_older_format_is_read_and_verified(version):
    """The files were made by the last ndvol that wrote their format, like this:

    with CaseWriter(path, case="old", levels=2) as writer:
        writer.add_image("CT", image, grid, attributes={"modality": "CT"})
        writer.add_label("organs", ball.astype(np.uint8), grid, categories={1: "ball"})
        writer.set_provenance({"sources": []})
    """
    path = Path(__file__).parent / "fixtures" / f"format-{version}.h5"
    with h5py.File(path, "r") as file:
        assert file.attrs["ndvol_format"].decode() == version
        assert ("chunks" in file, "contents" in file) == (version == "1.1", False)
    z, y, x = np.indices((20, 24, 40))
    image, ball = (z * 400 + y * 40 + x).astype(np.int16), (z - 10) ** 2 + (y - 12) ** 2 + (x - 20) ** 2 < 40
    grid = Grid.regular("zyx", z.shape, spacing=(2, 1, 0.5))
    case = open_case(path)
    assert (case.name, case.images["CT"].grid, case.images["CT"].attributes["modality"]) == ("old", grid, "CT")
    np.testing.assert_array_equal(case.images["CT"], image)
    np.testing.assert_array_equal(case.labels["organs"], ball)
    assert case.labels["organs"].index.count(1) == ball.sum()
    assert case.labels["organs"].categories == {1: "ball"}
    assert case.images["CT"].levels == 2
    assert verify_file(path) == []


@pytest.mark.parametrize("length", [0, 100, 3000, -1000])
def test_a_truncated_file_is_refused(toy, tmp_path, length):
    path = tmp_path / "short.h5"
    path.write_bytes(toy.read_bytes()[:length])
    assert verify_file(path)
    with pytest.raises(StoreError):
        np.asarray(open_case(path).images["CT"])


def test_a_failed_write_publishes_nothing_and_keeps_the_old_file(toy):
    before = toy.read_bytes()

    def fail():
        with CaseWriter(toy, case="toy", uuid="2") as writer:
            writer.add_image("CT", np.zeros(SHAPE, np.int16), Grid.regular("zyx", SHAPE))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert toy.read_bytes() == before
    assert [p.name for p in toy.parent.iterdir()] == ["toy.h5"]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 2), np.uint8), "array and grid differ"),
        (np.zeros((2, 3)), "must be integers"),
        (np.full((2, 3), 4, np.uint8), "without a category"),
    ],
)
def test_wrong_shape_type_and_unnamed_values_are_refused(tmp_path, array, reason):
    def write():
        with CaseWriter(tmp_path / "a.h5", case="a", uuid="") as writer:
            writer.add_label("l", array, Grid.regular("yx", (2, 3)), categories={1: "x"})

    with pytest.raises(ValueError, match=reason):
        write()
    assert not list(tmp_path.iterdir())


def test_a_complex_image_is_refused(tmp_path):
    def write():
        with CaseWriter(tmp_path / "a.h5", case="a", uuid="") as writer:
            writer.add_image("i", np.zeros((2, 3), complex), Grid.regular("yx", (2, 3)))

    with pytest.raises(OptionError, match="only integers and floats"):
        write()


@pytest.mark.parametrize("padding", [-1024, 0, 7.5])
def test_padding_is_not_stored_and_reads_the_same(tmp_path, padding):
    """Air outside the field of view: whole chunks of one value cost nothing, in the file and to read."""
    image = np.full((64, 64, 64), padding, np.float32)
    image[20:30, 20:30, 20:30] = np.arange(1000).reshape(10, 10, 10)
    with CaseWriter(tmp_path / "a.h5", case="a", uuid="") as writer:
        writer.add_image("i", image, Grid.regular("zyx", image.shape))
    assert len(chunk_infos(tmp_path / "a.h5", "images/i/0")) == 1
    np.testing.assert_array_equal(open_case(tmp_path / "a.h5").images["i"], image)
    with h5py.File(tmp_path / "a.h5", locking=False) as file:
        np.testing.assert_array_equal(file["images/i/0"], image)


def test_bool_is_stored_as_uint8(tmp_path):
    with CaseWriter(tmp_path / "a.h5", case="a", uuid="") as writer:
        writer.add_image("i", np.eye(3, dtype=bool), Grid.regular("yx", (3, 3)))
    assert open_case(tmp_path / "a.h5").images["i"].dtype == np.uint8


def test_a_reader_keeps_its_file_when_a_new_one_is_published(toy):
    case = open_case(toy)
    with CaseWriter(toy, case="toy", uuid="2") as writer:
        writer.add_image("CT", np.full(SHAPE, 9, np.int16), Grid.regular("zyx", SHAPE))
    assert (np.asarray(open_case(toy).images["CT"]) == 9).all()
    assert case.images["CT"].shape == SHAPE


def test_a_file_that_is_replaced_while_it_is_verified_is_no_damage(tmp_path, monkeypatch):
    grid = Grid.regular("zyx", (4, 5, 6))
    for name in ("a", "b"):
        with CaseWriter(tmp_path / f"{name}.h5", case="a", uuid=name) as writer:
            writer.add_image("CT", np.full(grid.shape, 1 + ord(name), np.int16) * np.arange(6, dtype=np.int16), grid)
    check = verify.check_format

    def replaced(file):
        (tmp_path / "b.h5").replace(tmp_path / "a.h5")
        check(file)

    monkeypatch.setattr(verify, "check_format", replaced)
    assert verify_file(tmp_path / "a.h5") == []
    assert not (tmp_path / "b.h5").exists()


def test_a_full_disk_is_an_error_at_once(tmp_path):
    """With a limit on the size of files, as a stand-in for a full device: no signal, no crash, nothing left."""
    code = f"""
import resource, signal, sys
import numpy as np
from ndvol.errors import StorageFullError
from ndvol.geometry import Grid
from ndvol.store import CaseWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
shape = (64, 128, 128)
noise = np.random.default_rng(0).integers(0, 2**15, shape).astype(np.int16)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
try:
    with CaseWriter({str(tmp_path / "c.h5")!r}, case="c", uuid="u") as writer:
        writer.add_image("CT", noise, Grid.regular("zyx", shape))
except StorageFullError as error:
    print(error)
"""
    for limit in (1000, 100_000, 1_000_000, 2_000_000):
        done = subprocess.run([sys.executable, "-c", code, str(limit)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("no space left while writing")
        assert not list(tmp_path.iterdir())
    assert issubclass(StorageFullError, OSError)


def read_in_worker(case, queue):
    queue.put(int(np.asarray(case.images["CT"]).sum()))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_case_reads_the_same_in_a_worker(toy, method):
    case = open_case(toy)
    expected = int(np.asarray(case.images["CT"]).sum())
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=read_in_worker, args=(case, queue))
    worker.start()
    assert queue.get(timeout=60) == expected
    worker.join(60)
    assert worker.exitcode == 0


def test_a_case_pickles_as_path_and_options(toy):
    case = open_case(toy)
    case.labels["organs"].index.count(1)
    data = pickle.dumps(case)
    assert len(data) < 4000
    np.testing.assert_array_equal(pickle.loads(data).labels["organs"], case.labels["organs"])


def test_a_replaced_file_and_another_folder_are_noticed(tmp_path, monkeypatch):
    for k, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        with CaseWriter(tmp_path / folder / "c.h5", case="c", uuid="") as writer:
            writer.add_image("i", np.full((4, 4), k), Grid.regular("yx", (4, 4)))
    monkeypatch.chdir(tmp_path / "one")
    first = open_case("c.h5")
    assert first.images["i"][0, 0] == 0
    monkeypatch.chdir(tmp_path / "two")
    assert open_case("c.h5").images["i"][0, 0] == 1
    assert first.images["i"][0, 0] == 0
    (tmp_path / "two" / "c.h5").replace(tmp_path / "one" / "c.h5")
    assert open_case(tmp_path / "one" / "c.h5").images["i"][0, 0] == 1


def test_threads_share_handles_while_files_are_evicted(tmp_path, monkeypatch):
    monkeypatch.setattr("ndvol.store.hdf5.MAX_HANDLES", 3)
    cases = []
    for k in range(12):
        with CaseWriter(tmp_path / f"{k}.h5", case=str(k), uuid="") as writer:
            writer.add_image("i", np.full((4, 4), k), Grid.regular("yx", (4, 4)))
        cases.append(open_case(tmp_path / f"{k}.h5"))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            numbers = [k % 12 for k in range(600)]
            assert list(pool.map(lambda k: int(cases[k].images["i"][1, 1]), numbers)) == numbers
    finally:
        sys.setswitchinterval(interval)


def test_more_files_than_handles(tmp_path, monkeypatch):
    monkeypatch.setattr("ndvol.store.hdf5.MAX_HANDLES", 3)
    paths = [tmp_path / f"{k}.h5" for k in range(6)]
    for k, path in enumerate(paths):
        with CaseWriter(path, case=str(k), uuid="") as writer:
            writer.add_image("i", np.full((4, 4), k), Grid.regular("yx", (4, 4)))
    cases = [open_case(path) for path in paths]
    assert [int(case.images["i"][0, 0]) for case in [*cases, *cases]] == [*range(6), *range(6)]


def hostile(kind, folder):
    """A file whose data set reaches for the bytes of another file."""
    secret = folder / "secret.bin"
    secret.write_bytes(bytes(range(64)))
    path = folder / f"{kind}.h5"
    with h5py.File(path, "w") as file:
        if kind == "external-link":
            with h5py.File(folder / "other.h5", "w") as other:
                other["x"] = np.arange(64)
            file["data"] = h5py.ExternalLink(str(folder / "other.h5"), "/x")
        elif kind == "external-group":
            with h5py.File(folder / "other.h5", "w") as other:
                other["data"] = np.arange(64)
            file["group"] = h5py.ExternalLink(str(folder / "other.h5"), "/")
        elif kind == "soft-link":
            file["real"] = np.arange(64)
            file["data"] = h5py.SoftLink("/real")
        elif kind == "external-storage":
            file.create_dataset("data", (64,), "u1", external=[(str(secret), 0, 64)])
        else:
            layout = h5py.VirtualLayout((64,), "u1")
            layout[:] = h5py.VirtualSource(str(secret), "x", (64,))
            file.create_virtual_dataset("data", layout)
    return path, "group/data" if kind == "external-group" else "data"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("external-link", "ExternalLink"),
        ("external-group", "ExternalLink"),
        ("soft-link", "SoftLink"),
        ("external-storage", "another file"),
        ("virtual", "virtual data set"),
    ],
)
def test_files_that_reach_outside_are_refused(tmp_path, kind, reason):
    path, dataset = hostile(kind, tmp_path)
    with pytest.raises(UnsafeFileError, match=reason):
        open_hdf5(path, dataset, axes="x")


@pytest.mark.parametrize("name", ["images/CT/0", "contents", "manifest", "chunks", "labels/organs/index/counts"])
def test_a_foreign_link_in_an_ndvol_file_is_never_followed(toy, name, monkeypatch):
    with h5py.File(toy, "r+") as file:
        del file[name]
        file[name] = h5py.ExternalLink("/etc/hostname", "/x")
    monkeypatch.setenv("NDVOL_DIRECT", "0")
    with pytest.raises(UnsafeFileError, match="ExternalLink"):
        read_all(toy)
    assert any("ExternalLink" in damage.what for damage in verify_file(toy))


def test_voxels_are_read_from_where_they_lie_whatever_leads_to_them(toy):
    """The contents and the table of chunks say where; no link is followed, so none can lead elsewhere."""
    with h5py.File(toy, "r+") as file:
        del file["images/CT/0"]
        file["images/CT/0"] = h5py.ExternalLink("/etc/hostname", "/x")
    np.testing.assert_array_equal(open_case(toy).images["CT"], toy_arrays()[0])
    forget(toy)
    with h5py.File(toy, "r+") as file:
        del file["contents"]
    with pytest.raises(UnsafeFileError, match="ExternalLink"):
        open_case(toy)


def test_huge_chunks_and_unknown_filters_are_refused(tmp_path):
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("data", (2**31,), "u1", chunks=(2**31,))
    with pytest.raises(UnsafeFileError, match="chunks of"):
        open_hdf5(tmp_path / "huge.h5", "data", axes="x")
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((8,))
    plist.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(tmp_path / "filter.h5", "w") as file:
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_INT16, h5py.h5s.create_simple((8,)), plist)
    with pytest.raises(UnsafeFileError, match="filter 305"):
        open_hdf5(tmp_path / "filter.h5", "data", axes="x")


def test_other_files_open_by_data_set_axes_and_spacing(tmp_path):
    array = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    with h5py.File(tmp_path / "kspace.h5", "w") as file:
        file["reconstruction/rss"] = array
        file["name"] = "text"
    volume = open_hdf5(tmp_path / "kspace.h5", "reconstruction/rss", axes="zyx", spacing=(3, 1, 1))
    assert (volume.name, volume.grid.spacing, volume.grid.frame) == ("rss", (3.0, 1.0, 1.0), "LOCAL")
    np.testing.assert_array_equal(volume, array)
    with pytest.raises(UnknownNameError, match="reconstruction"):
        open_hdf5(tmp_path / "kspace.h5", "reconstructions/rss", axes="zyx")
    with pytest.raises(UnknownNameError, match="is a group"):
        open_hdf5(tmp_path / "kspace.h5", "reconstruction", axes="zyx")
    with pytest.raises(StoreError, match="no numbers"):
        open_hdf5(tmp_path / "kspace.h5", "name", axes="")
    with pytest.raises(ValueError, match="axes do not fit"):
        open_hdf5(tmp_path / "kspace.h5", "reconstruction/rss", axes="yx")
    with pytest.raises(StoreError, match="not an ndvol file"):
        open_case(tmp_path / "kspace.h5")


def test_a_file_of_a_later_format_is_refused_by_version(toy):
    with h5py.File(toy, "r+") as file:
        file.attrs["ndvol_format"] = np.bytes_("2.0")
    with pytest.raises(StoreError, match=r"format 2\.0.*newer ndvol"):
        open_case(toy)


def test_itk_reads_the_same_version_of_hdf5(toy):
    """ITK's own HDF5 is older; it must at least understand the file's metadata version."""
    with h5py.File(toy, "r") as file:
        assert file.id.get_create_plist().get_version()[0] <= 3
