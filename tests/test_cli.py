"""The command line: what a person sees, exit codes, JSON, and no traceback for a mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner
from PIL import Image

import ndvol
from ndvol.cli import main


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    return folder, CliRunner().invoke(main, ["demo", str(folder)])


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_the_demo_imports_refuses_verifies_draws_and_says_what_next(demo):
    folder, result = demo
    assert result.exit_code == 0, result.output
    assert "dicom/defective: refused: 1 slice is missing; got a gap of 6.000 mm between slice 17 of 39" in result.output
    assert "6 cases, every stored byte as written" in result.output
    counts = [line.split()[-1] for line in result.output.splitlines() if line.startswith(("positive", "negative"))]
    assert sum(map(int, counts)) == 128
    for hint in ("ndvol ls", "ndvol info", "ndvol sample", "ndvol import", "import ndvol"):
        assert hint in result.output
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 1000


def test_what_the_demo_says_next_works(demo, monkeypatch):
    folder, result = demo
    monkeypatch.chdir(folder)
    lines = [line.strip() for line in result.output.split("Then:")[1].splitlines()]
    commands = [line for line in lines if line.startswith("ndvol") and "YOUR_" not in line]
    assert len(commands) == 3
    for command in commands:
        done = run(*command.split()[1:])
        assert done.exit_code == 0, done.output
    python = "\n".join(lines[lines.index("import ndvol") :])
    done = subprocess.run([sys.executable, "-c", f"{python.rstrip()}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ls_and_info(demo):
    bundle = demo[0] / "bundle"
    rows = json.loads(run("ls", bundle, "--json").stdout)
    assert [r["case"] for r in rows][-4:] == ["stack", "toy-0", "toy-1", "toy-2"]
    assert "40 x 96 x 112" in run("ls", bundle).stdout
    facts = json.loads(run("info", bundle, "--json").stdout)
    assert facts["cases"] == 6
    assert "finding" in facts["categories"]
    case = json.loads(run("info", bundle, "toy-0", "--json").stdout)
    assert case["images"]["CT"]["dtype"] == "int16"
    assert case["labels"]["labels"]["dtype"] == "uint8"
    assert {o["category"] for o in case["objects"]} == {"liver", "kidney", "cyst", "tumor", "calcification"}
    assert "shape: 40, 96, 112" in run("info", bundle, "toy-0").stdout


def test_sample_prints_its_targets(demo, tmp_path):
    arguments = ["sample", demo[0] / "bundle", "-w", "8,16,16", "--positive", 3, "--negative", 2, "--category", "cyst"]
    result = run(*arguments, "--json", "-o", tmp_path / "s.png")
    assert result.exit_code == 0, result.output
    targets = json.loads(result.stdout)
    assert [t["role"] for t in targets] == ["positive"] * 3 + ["negative"] * 2
    assert all(t["shape"] == [8, 16, 16] for t in targets)
    again = run(*arguments, "--json", "-o", tmp_path / "s.png")
    assert json.loads(again.stdout) == targets


def test_a_dry_run_writes_nothing(demo, tmp_path):
    result = run("import", demo[0] / "raw", tmp_path / "b", "--dry-run")
    assert result.exit_code == 0
    assert "toy-0" in result.stdout
    assert "missing-slices" in result.stdout
    assert not (tmp_path / "b").exists()
    assert len(json.loads(run("import", demo[0] / "raw", tmp_path / "b", "-n", "--json").stdout)["cases"]) == 10


def test_import_says_what_happened_by_exit_code(demo, tmp_path):
    nifti = demo[0] / "raw" / "nifti" / "images"
    result = run("import", nifti, tmp_path / "ok", "-j", 0, "--json")
    assert result.exit_code == 0, result.output
    assert [v["status"] for v in json.loads(result.stdout)] == ["imported"] * 3
    assert run("import", demo[0] / "raw" / "dicom", tmp_path / "partly", "-j", 0).exit_code == 3
    defect = run("import", demo[0] / "raw" / "dicom" / "defective", tmp_path / "none", "-j", 0)
    assert defect.exit_code == 1
    assert "missing-slices" in defect.stdout
    assert "nothing could be imported" in defect.stderr


def test_verify_goes_on_when_a_volume_is_gone(demo, tmp_path):
    shutil.copytree(demo[0] / "bundle", tmp_path / "b")
    (tmp_path / "b" / "volumes" / "toy-1.h5").unlink()
    result = run("verify", tmp_path / "b", "--json")
    assert result.exit_code == 4
    assert [(d["case"], d["damage"][:16]) for d in json.loads(result.stdout)["damage"]] == [
        ("toy-1", "there is no file")
    ]


def test_only_this_run_is_reported(demo, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bad.nii.gz").write_bytes(b"bad")
    shutil.copy(demo[0] / "raw" / "nifti" / "images" / "toy-0.nii.gz", tmp_path / "a")
    (tmp_path / "b").mkdir()
    shutil.copy(demo[0] / "raw" / "nifti" / "images" / "toy-1.nii.gz", tmp_path / "b" / "bad.nii.gz")
    assert run("import", tmp_path / "a", tmp_path / "bundle", "-j", 0).exit_code == 3
    result = run("import", tmp_path / "b", tmp_path / "bundle", "-j", 0, "--json")
    assert (result.exit_code, [v["status"] for v in json.loads(result.stdout)]) == (0, ["imported"])


def test_verify_finds_a_flipped_bit_and_names_it(demo, tmp_path):
    path = tmp_path / "one.h5"
    path.write_bytes((demo[0] / "bundle" / "volumes" / "toy-0.h5").read_bytes())
    assert run("verify", path).exit_code == 0
    with h5py.File(path) as file:
        info = file["images/CT/0"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[info.byte_offset + 40] ^= 1
    path.write_bytes(raw)
    result = run("verify", path, "--json")
    assert result.exit_code == 4
    [damage] = json.loads(result.stdout)["damage"]
    assert (damage["dataset"], damage["damage"]) == ("images/CT/0", "a chunk's bytes have changed")


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["ls", "nowhere"], 1, "there is no bundle or kwcoco file at nowhere"),
        (["info", "BUNDLE", "toy-9"], 1, "did you mean 'toy-"),
        (["sample", "BUNDLE", "--category", "lesoin"], 1, "did you mean 'lesion'"),
        (["sample", "BUNDLE", "-w", "big"], 2, "not like 64 or 32,96,96"),
        (["sample", "BUNDLE", "-o", "sheet.txt"], 2, "does not end in .png"),
        (["sample", "BUNDLE", "--positive", "-1"], 2, "-1 is not in the range"),
        (["demo", "/proc/nothing"], 1, "No such file"),
        (["ls", "BUNDLE/volumes/toy-0.h5"], 1, "is one volume file"),
        (["import", "nowhere", "b"], 1, "there is no folder or file nowhere"),
        (["import"], 2, "Missing argument"),
        (["import", "BUNDLE", "b", "--categories", "nowhere.json"], 1, "no category table"),
        (["nonsense"], 2, "there is no command 'nonsense'"),
    ],
)
def test_a_mistake_gets_one_clear_line(demo, arguments, code, reason):
    result = run(*[a.replace("BUNDLE", str(demo[0] / "bundle")) for a in arguments])
    assert result.exit_code == code
    assert reason in result.output
    assert "Traceback" not in result.output


def test_a_data_set_of_hdf5_files_is_named_by_its_path(tmp_path):
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "in" / "a.h5", "w") as file:
        file["raw"], file["other"] = [[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]
    result = run("import", tmp_path / "in", tmp_path / "out", "-j", 0)
    assert result.exit_code == 1
    assert "/other (1, 2, 2) int64, /raw (1, 2, 2) int64" in result.output
    result = run("import", tmp_path / "in", tmp_path / "out", "-j", 0, "--dataset", "raw")
    assert result.exit_code == 0, result.output
    assert ndvol.open(tmp_path / "out")["a"].images["image"][...].tolist() == [[[1, 2], [3, 4]]]


def test_version_and_help_import_nothing_heavy():
    code = "import sys; sys.argv = ['ndvol', '--version']\n"
    code += "import ndvol.cli, atexit\n"
    code += "heavy = {'numpy', 'h5py', 'pydicom', 'SimpleITK', 'nibabel', 'torch', 'kwcoco', 'PIL', 'scipy'}\n"
    code += "atexit.register(lambda: print(sorted(heavy & set(sys.modules))))\n"
    code += "ndvol.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"ndvol, version {ndvol.__version__}", "[]"]


def test_the_help_names_every_command_and_the_exit_codes():
    text = run("--help").stdout
    for command in ("demo", "import", "info", "ls", "sample", "verify"):
        assert f"  {command} " in text
    assert "3 done but some sources were refused" in " ".join(text.split())


def test_python_m_ndvol_is_the_command():
    done = subprocess.run([sys.executable, "-m", "ndvol", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ndvol, version")
    assert Path(ndvol.__file__).with_name("py.typed").is_file()
