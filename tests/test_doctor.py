"""`ndvol doctor`: all is well here, each fault is found, and nothing is left behind."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ndvol.cli import main
from ndvol.doctor import machine
from ndvol.doctor.codecs import check_codecs, check_decoders
from ndvol.doctor.folder import check_folder
from ndvol.doctor.machine import check_environment, check_machine, cpu_quota, memory_limit
from ndvol.doctor.packages import Requirement, check_packages
from ndvol.formats import dicom_decoders
from ndvol.store import blosc


def only(findings, name):
    [found] = [f for f in findings if f.name == name]
    return found


def test_all_that_is_needed_works_here(tmp_path):
    result = CliRunner().invoke(main, ["doctor", str(tmp_path), "--json"])
    answer = json.loads(result.stdout)
    problems = [f for f in answer["findings"] if f["status"] == "problem"]
    assert (result.exit_code, answer["ok"], problems) == (0, True, [])
    groups = list(dict.fromkeys(f["group"] for f in answer["findings"]))
    assert groups == ["versions", "extras", "codecs", "DICOM", "folder", "machine", "environment"]
    names = {f["name"].lower(): f["value"] for f in answer["findings"]}
    assert names["numpy"] == np.__version__
    assert names["small: zstd, bit shuffle"] == names["file locking"] == names["memory map"] == "works"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_yet_to_be_made_is_not_made(tmp_path):
    found = list(check_folder(tmp_path / "a" / "b"))
    assert only(found, "path").value.startswith(str(tmp_path))
    assert only(found, "writable").value == "yes"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_problem():
    result = CliRunner().invoke(main, ["doctor", "/proc"])
    assert result.exit_code == 1
    assert "problem  writable: no: " in result.output
    assert "-> choose another folder" in result.output
    assert "Traceback" not in result.output


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "f").touch()
    assert CliRunner().invoke(main, ["doctor", str(tmp_path / "f")]).exit_code == 2


@pytest.mark.parametrize(
    ("broken", "name", "status", "advice"),
    [
        ((os, "fsync"), "replace and fsync", "problem", "another file system"),
        ((fcntl, "flock"), "file locking", "warning", "HDF5_USE_FILE_LOCKING=FALSE"),
    ],
)
def test_what_a_file_system_cannot_do_is_named(tmp_path, monkeypatch, broken, name, status, advice):
    def fail(*_):
        raise OSError(errno.ENOLCK, "not here")

    monkeypatch.setattr(*broken, fail)
    found = only(check_folder(tmp_path), name)
    assert (found.status, advice in found.advice, "not here" in found.value) == (status, True, True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_forgets_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *_: None)
    assert "the old file is still there" in only(check_folder(tmp_path), "replace and fsync").value


def test_names_that_differ_in_case_only(tmp_path, monkeypatch):
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: self.name == "cASE" or exists(self))
    assert only(check_folder(tmp_path), "case sensitivity").status == "warning"


@pytest.mark.parametrize(("free", "status"), [(10**12, "ok"), (5 * 10**9, "warning"), (10**6, "problem")])
def test_space(tmp_path, monkeypatch, free, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**13, 10**13 - free, free))
    assert only(check_folder(tmp_path), "free space").status == status


@pytest.mark.parametrize("fault", ["raises", "other voxels"])
def test_a_codec_that_does_not_work(monkeypatch, fault):
    def decode(_data, _pointer, buffer, _first, _last):
        if fault == "raises":
            raise RuntimeError("no lz4 in this build")
        buffer.array[...] = 0

    monkeypatch.setattr(blosc, "decode", decode)
    found = {f.name: f for f in check_codecs()}
    assert found["fast: lz4hc, byte shuffle"].status == "problem"
    assert ("no lz4" if fault == "raises" else "other voxels") in found["fast: lz4hc, byte shuffle"].value
    assert found["portable: gzip, byte shuffle"].status == found["none: none"].status == "ok"


def test_transfer_syntaxes_are_decoded_right():
    found = {f.name: f for f in check_decoders()}
    assert len(found) == 10
    assert {f.status for f in found.values()} == {"ok"}
    assert found["RLE Lossless"].value == "works (pydicom)"


def test_a_decoder_that_is_missing_or_wrong_is_a_warning(monkeypatch):
    decode = dicom_decoders.pixel_array

    def spoilt(dataset, **options):
        if "LS" in dataset.file_meta.TransferSyntaxUID.name:
            raise RuntimeError("no plug-in")
        return decode(dataset, **options) + np.uint8(dataset.file_meta.TransferSyntaxUID.name == "RLE Lossless")

    monkeypatch.setattr(dicom_decoders, "pixel_array", spoilt)
    found = {f.name: f for f in check_decoders()}
    bad = {name for name, f in found.items() if f.status == "warning"}
    assert bad == {
        "JPEG-LS Lossless Image Compression",
        "JPEG-LS Lossy (Near-Lossless) Image Compression",
        "RLE Lossless",
    }
    assert "decoded to other values" in found["RLE Lossless"].value


def test_a_package_that_is_broken_missing_or_old_is_said_and_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    versions = {"numpy": "1.20.0", "xxhash": None}
    installed = Requirement.installed.fget
    monkeypatch.setattr(Requirement, "installed", property(lambda self: versions.get(self.name, installed(self))))
    result = CliRunner().invoke(main, ["doctor", str(tmp_path), "--json"])
    assert result.exit_code == 1
    bad = {f["name"]: f for f in json.loads(result.stdout)["findings"] if f["status"] == "problem"}
    assert set(bad) == {"numpy", "xxhash", "tifffile"}
    assert bad["xxhash"]["advice"] == 'pip install "xxhash>=3.4"'
    assert "1.26 or later" in bad["numpy"]["advice"]
    assert "`import tifffile` fails" in bad["tifffile"]["value"]


def test_an_extra_that_is_not_installed_is_no_fault(monkeypatch):
    monkeypatch.setattr(Requirement, "installed", property(lambda self: None if self.extra else "9999"))
    found = [f for f in check_packages() if f.group == "extras"]
    assert {f.status for f in found} == {"ok"}
    assert 'not installed; pip install "ndvol[monai]"' in only(found, "monai").value
    assert "test" not in {f.name for f in found}


def test_it_starts_without_the_packages_it_asks_for():
    code = "import ndvol.doctor.command, sys; print({'numpy', 'h5py', 'pydicom'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({}, None, None),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1.5, None),
        (
            {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"},
            None,
            None,
        ),
        ({"proc/self/cgroup": "0::/gone", "sys/fs/cgroup/memory.max": "1073741824"}, None, 2**30),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/b\n4:memory:/b",
                "sys/fs/cgroup/cpu/b/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/b/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/b/memory.limit_in_bytes": "4096",
            },
            0.5,
            4096,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/\n4:memory:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
            },
            None,
            None,
        ),
    ],
)
def test_limits_of_containers(tmp_path, files, cpus, memory):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert (cpu_quota(tmp_path), memory_limit(tmp_path)) == (cpus, memory)


def test_a_container_with_few_processors_and_little_memory(tmp_path):
    files = {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/cpu.max": "50000 100000",
        "sys/fs/cgroup/memory.max": str(2**30),
        "proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 8388608 kB",
        "dev/shm/x": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = list(check_machine(tmp_path))
    assert "pass -j 1 to `ndvol import`" in only(found, "processors").advice
    assert only(found, "memory").value == "8.0 GiB free of 8.0, of which the container may use 1.0"
    assert only(found, "memory").status == "warning"


def test_little_shared_memory_and_few_files(monkeypatch):
    small = shutil._ntuple_diskusage(2**26, 0, 2**26)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    found = list(check_machine())
    assert only(found, "shared memory").value == "0.062 GiB free of 0.062"
    assert "--shm-size" in only(found, "shared memory").advice
    assert only(found, "open files").advice.startswith("ulimit -n 1024")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert only(check_machine(), "open files").status == "ok"
    assert machine.FEW_FILES > 1024


def test_variables_that_steer_hdf5():
    found = {f.name: f.status for f in check_environment({})}
    assert found == {"file names": "ok"}
    set_ = {"HDF5_PLUGIN_PATH": "/x", "NDVOL_DIRECT": "0", "HDF5_USE_FILE_LOCKING": "FALSE", "HDF5_PLUGIN_PRELOAD": ""}
    found = {f.name: f.status for f in check_environment(set_)}
    assert [name for name, status in found.items() if status == "warning"] == [
        "HDF5_PLUGIN_PATH",
        "NDVOL_DIRECT",
        "HDF5_PLUGIN_PRELOAD",
    ]
    assert found["HDF5_USE_FILE_LOCKING"] == "ok"
