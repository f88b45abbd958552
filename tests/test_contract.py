"""What holds for every command: JSON alone on stdout, codes, one line for a mistake, quiet ends, and a light start."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import ndvol.cli
import ndvol.demo
import ndvol.facts
from ndvol.cli import main
from ndvol.commands import EXIT_BUG, LATER
from ndvol.demo import CATEGORIES, make_toy
from ndvol.errors import CURES, StorageFullError, StoreError
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid, Window
from ndvol.importing import ImportOptions, import_tree, read_categories
from ndvol.sampling import Target

HEAVY = {
    "numpy",
    "h5py",
    "hdf5plugin",
    "numcodecs",
    "pydicom",
    "SimpleITK",
    "nibabel",
    "torch",
    "kwcoco",
    "PIL",
    "scipy",
}
LINE = re.compile(r"ndvol: .+ \[[a-z0-9-]+\]")
NAMES = sorted([*main.commands, *LATER])


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A bundle of three cases, and what people mistake for one."""
    root = tmp_path_factory.mktemp("places")
    grid = Grid.regular("zyx", (12, 32, 32), spacing=(3, 1, 1))
    for k in range(3):
        toy = make_toy(grid.shape, seed=k)
        write_nifti(root / "raw" / "images" / f"toy-{k}.nii", toy.image, grid)
        write_nifti(root / "raw" / "labels" / f"toy-{k}.nii", toy.labels, grid)
    (root / "raw" / "categories.json").write_text(json.dumps(CATEGORIES))
    options = ImportOptions(categories=read_categories(root / "raw" / "categories.json"))
    import_tree(root / "raw", root / "bundle", options=options)
    (root / "file").write_text("x")
    (root / "empty").mkdir()
    (root / "cut.kwcoco.json").write_text('{"images": [')
    (root / "list.json").write_text("[]")
    (root / "latin.json").write_bytes(b'{"images": "\xe9"}')
    (root / "junk.h5").write_bytes(b"junk")
    shutil.copytree(root / "bundle", root / "gone")
    shutil.rmtree(root / "gone" / "volumes")
    shutil.copytree(root / "bundle", root / "cut")
    for path in (root / "cut" / "volumes").glob("*.h5"):
        path.write_bytes(path.read_bytes()[:1000])
    return root


def run(places, *arguments):
    arguments = [str(a).replace("ROOT", str(places)) for a in arguments]
    return CliRunner().invoke(main, arguments, prog_name="ndvol")


def program(*arguments, **options):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ndvol", *map(os.fspath, arguments)], capture_output=True, check=False, **options
    )


GOOD = {
    "bench": ["ROOT/bundle", "-w", "8", "-n", "1"],
    "demo": ["ROOT/demo"],
    "doctor": ["ROOT"],
    "export": ["ROOT/bundle", "ROOT/exported", "--to", "nifti"],
    "import": ["ROOT/raw/images", "ROOT/imported", "-j", "0"],
    "info": ["ROOT/bundle"],
    "ls": ["ROOT/bundle"],
    "report": ["ROOT/bundle", "-o", "ROOT/report.html", "-w", "8", "--windows", "1"],
    "sample": ["ROOT/bundle", "-o", "ROOT/sheet.png", "-w", "8", "--positive", "1", "--negative", "1"],
    "verify": ["ROOT/bundle"],
}
SCRIPTS = {"completion", "view"}
"""What prints a script for a shell, and what ends only when it is stopped; the others are run here."""


def test_every_command_is_run_here():
    assert set(NAMES) - SCRIPTS == set(GOOD)


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"demo"}))
def test_with_json_stdout_is_one_value(places, name):
    result = run(places, name, *GOOD[name], "--json")
    assert result.exit_code == 0, result.output
    assert isinstance(json.loads(result.stdout), dict | list)


def test_the_demo_says_all_of_it_in_json(places, monkeypatch):
    """On small data; tests/test_cli.py runs the demo itself."""
    target = Target("toy-0", Window((0, 0, 0), (1, 2, 3)))
    monkeypatch.setattr(ndvol.demo, "write_toy_sources", lambda raw, seed: shutil.copytree(places / "raw", raw))
    monkeypatch.setattr(ndvol.cli, "draw_sheet", lambda *_: [target])
    result = run(places, "demo", *GOOD["demo"], "--json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["cases"], answer["damage"]) == (0, 3, [])
    assert answer["windows"][0]["shape"] == [1, 2, 3]
    assert [v["status"] for v in answer["verdicts"]].count("imported") == 6
    assert "1. Toy data" in result.stderr


@pytest.mark.parametrize(
    "bundle", ["nowhere", "file", "empty", "cut.kwcoco.json", "list.json", "latin.json", "junk.h5"]
)
@pytest.mark.parametrize("name", sorted(set(GOOD) - {"demo", "doctor", "import"}))
def test_what_is_no_bundle_is_one_line(places, name, bundle):
    if (name, bundle) == ("verify", "junk.h5"):
        return  # one file can be verified, and this one is damaged
    arguments = [a.replace("ROOT/bundle", f"ROOT/{bundle}") for a in GOOD[name]]
    result = run(places, name, *arguments, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert LINE.fullmatch(line), line
    assert line.endswith("[catalog]")
    assert line.count("; ") >= 1, "a cause has a cure"


@pytest.mark.parametrize(
    ("bundle", "status", "code"), [("gone", 1, "unknown-name"), ("cut", 4, "damage")], ids=["gone", "cut"]
)
@pytest.mark.parametrize("name", ["bench", "info", "sample"])
def test_a_bundle_without_its_volumes(places, name, bundle, status, code):
    arguments = [a.replace("ROOT/bundle", f"ROOT/{bundle}") for a in GOOD[name]]
    result = run(places, name, *arguments, *(["toy-0"] if name == "info" else []))
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.splitlines()[-1].endswith(f"[{code}]")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["sample", "ROOT/bundle", "-w", "0"], 2, "'0' is not like 64 or 32,96,96"),
        (["sample", "ROOT/bundle", "-w", "-3"], 2, "'-3' is not like 64 or 32,96,96"),
        (["sample", "ROOT/bundle", "-w", "1,,2"], 2, "'1,,2' is not like"),
        (["sample", "ROOT/bundle", "-w", "9" * 30], 2, "is not like"),
        (["sample", "ROOT/bundle", "-w", "8,8"], 1, "got (8, 8); expected 3 for 'zyx'"),
        (["sample", "ROOT/bundle", "--category", "lesoin"], 1, "did you mean 'lesion'?"),
        (["sample", "ROOT/bundle", "--seed", "-1"], 2, "-1 is not in the range x>=0"),
        (["sample", "ROOT/bundle", "--max-overlap", "7"], 2, "7.0 is not in the range"),
        (["sample", "ROOT/bundle", "--max-overlap", "nan"], 1, "got nan; expected 0 … 1"),
        (["sample", "ROOT/bundle", "-o", "ROOT/no/s.png"], 2, "there is no folder ROOT/no"),
        (["sample", "ROOT/bundle", "-o", "ROOT/empty"], 2, "ROOT/empty is a folder"),
        (["bench", "ROOT/bundle", "--seed", "-1"], 2, "-1 is not in the range x>=0"),
        (["ls", "ROOT/bundle", "ROOT/bundle"], 2, "unexpected extra argument"),
        (["ls", "ROOT/bundle", "--jsno"], 2, "Did you mean '--json'"),
        (["ls"], 2, "Missing argument 'BUNDLE'; see `ndvol ls -h`"),
        (["ls", "n" * 300], 1, "choose a shorter name"),
        (["improt", "a", "b"], 2, "there is no command 'improt'; did you mean 'import'?"),
        (["--jsno"], 2, "No such option '--jsno'"),
        (["info", "ROOT/bundle", "toy-7"], 1, "did you mean 'toy-"),
        (["info", "ROOT/bundle", ""], 1, "there is no case ''"),
        (["verify", "ROOT/nowhere.h5"], 1, "there is no file ROOT/nowhere.h5; check the path"),
        (["demo", "ROOT/file"], 2, "is a file"),
        (["demo", "ROOT/file/below"], 1, "name a folder, not a file"),
        (["import", "ROOT/nowhere", "ROOT/b"], 1, "there is no folder or file ROOT/nowhere; check the path"),
        (["import", "ROOT/raw", "ROOT/file", "-j", "0"], 1, "name a folder, not a file"),
        (["import", "ROOT/empty", "ROOT/b", "-j", "0"], 1, "nothing could be imported"),
        (["import", "ROOT/raw", "ROOT/b", "--report", "ROOT/empty"], 2, "is a directory"),
        (["import", "ROOT/raw", "ROOT/b", "--report", "ROOT/no/r.md"], 2, "there is no folder ROOT/no"),
        (["import", "ROOT/raw", "ROOT/b", "--categories", "ROOT/file"], 1, "is no category table"),
        (["import", "ROOT/raw", "ROOT/b", "--levels", "0", "-j", "0"], 1, "unknown levels; got 0"),
        (["import", "ROOT/raw", "ROOT/b", "--codec", "zip"], 2, "'zip' is not one of"),
        (["export", "ROOT/bundle", "ROOT/e"], 2, "Missing option '--to'. Choose from: nifti"),
        (["export", "ROOT/bundle", "ROOT/file", "--to", "nifti"], 1, "name a folder, not a file"),
        (["export", "ROOT/bundle", "ROOT/e", "--to", "niftii"], 2, "'niftii' is not one of"),
        (["completion", "tcsh"], 2, "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (["report", "ROOT/bundle", "-w", "x"], 2, "is not like"),
        (["report", "ROOT/bundle", "-o", "ROOT/no/r.html"], 2, "there is no folder ROOT/no"),
    ],
)
def test_a_mistake_is_one_line_with_what_to_do(places, arguments, status, said):
    result = run(places, *arguments)
    line = result.stderr.splitlines()[-1]
    assert result.exit_code == status, result.output
    assert LINE.fullmatch(line), line
    assert said.replace("ROOT", str(places)) in line
    assert "Traceback" not in result.output
    assert status != 2 or line.endswith("[usage]")


def test_a_fault_of_our_own_is_told_as_one_and_not_hidden(places, monkeypatch):
    def broken(_):
        raise KeyError("lost\x1b[31m")

    monkeypatch.setattr(ndvol.facts, "catalog_facts", broken)
    monkeypatch.delenv("NDVOL_DEBUG", raising=False)
    result = run(places, "info", "ROOT/bundle")
    assert (result.exit_code, result.stdout) == (EXIT_BUG, "")
    [line] = result.stderr.splitlines()
    assert re.search(r"a fault of ndvol .* itself, at cli\.py:\d+: KeyError: 'lost\\x1b\[31m'; please report", line)
    assert "NDVOL_DEBUG=1" in line
    assert line.endswith("[internal]")
    monkeypatch.setenv("NDVOL_DEBUG", "1")
    assert isinstance(run(places, "info", "ROOT/bundle").exception, KeyError)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "ndvol: stopped; run the same command again to go on [stopped]"),
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), 1, "cv2 is missing; install it"),
        (ModuleNotFoundError("No module named 'ndvol.x'", name="ndvol.x"), 70, "[internal]"),
        (MemoryError(), 1, "[out-of-memory]"),
        (StorageFullError("no space left"), 74, "[storage-full]"),
        (OSError(28, "No space left on device"), 74, "make room [storage-full]"),
        (PermissionError(13, "Permission denied", "/x"), 1, "Permission denied; got /x; check who may read"),
        (OSError("odd"), 1, "odd; see `ndvol doctor` [system]"),
        (StoreError.from_os(OSError(21, "Is a directory"), "/x"), 1, f"{CURES[21]} [store]"),
    ],
)
def test_trouble_has_a_code_and_a_cure(places, monkeypatch, error, status, said):
    def fail(_):
        raise error

    monkeypatch.setattr(ndvol.facts, "catalog_facts", fail)
    result = run(places, "info", "ROOT/bundle")
    assert (result.exit_code, said in result.stderr) == (status, True), result.stderr


def test_a_pipe_that_is_closed_early_ends_quietly(places):
    bundle = places / "many.kwcoco.json"
    images = [{"id": i, "file_name": f"{i}.png", "width": 9, "height": 9} for i in range(1, 3000)]
    bundle.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    command = [sys.executable, "-m", "ndvol", "ls", str(bundle)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout.readline().startswith(b"case")
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() in (0, 1), "releases of click differ"
    assert error == b""


def test_without_stdin_and_in_a_narrow_plain_terminal(places):
    narrow = {**os.environ, "COLUMNS": "40", "NO_COLOR": "1", "LC_ALL": "C", "PYTHONUTF8": "0", "TERM": "dumb"}
    closed = program("ls", places / "bundle", env=narrow, preexec_fn=lambda: os.close(0))
    assert (closed.returncode, closed.stderr) == (0, b"")
    assert b"toy-2" in closed.stdout
    shown = program("-h", env=narrow)
    assert shown.returncode == 0
    assert max(map(len, shown.stdout.decode().splitlines())) <= 50, "click's least width"
    assert b"\x1b" not in shown.stdout + closed.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_result_that_cannot_be_written_is_an_error(places):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ndvol", "ls", places / "bundle"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (74, b"ndvol: No space left on device; make room [storage-full]\n")


def test_names_that_are_no_utf8(places):
    name = os.fsencode(places) + b"/\xff\xe9"
    missing = program("ls", os.fsdecode(name))
    assert missing.returncode == 1
    assert b"there is no bundle or kwcoco file at" in missing.stderr
    shutil.copytree(places / "bundle", os.fsdecode(name))
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    found = program("info", os.fsdecode(name), env=ascii_only)
    assert (found.returncode, found.stderr) == (0, b"")
    result = CliRunner().invoke(main, ["info", os.fsdecode(name), "--json"])
    assert json.loads(result.stdout)["cases"] == 3


def test_the_help_tells_the_exit_codes():
    text = " ".join(CliRunner().invoke(main, ["-h"]).stdout.split())
    codes = "0 done, 1 failed, 2 wrong usage, 3 done but some sources were refused, 4 damage found, 70 a fault of"
    assert codes in text
    assert "74 no space left, 130 stopped" in text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ndvol", "exp"], {"export"}),
        (["ndvol", "d"], {"demo", "doctor"}),
        (["ndvol", "export", "--to", ""], {"nifti", "slices", "nnunet"}),
        (["ndvol", "export", "--t"], {"--to"}),
        (["ndvol", "import", "--codec", "p"], {"portable"}),
        (["ndvol", "sample", "--cat"], {"--category"}),
        (["ndvol", "completion", ""], {"bash", "zsh", "fish"}),
        (["ndvol", ""], set(NAMES)),
    ],
)
def test_completion_is_right_and_imports_nothing_heavy(words, found):
    code = (
        "import sys, atexit\nsys.argv = ['ndvol']\nimport ndvol.cli\n"
        f"atexit.register(lambda: print('HEAVY', sorted({HEAVY!r} & set(sys.modules))))\nndvol.cli.main()"
    )
    asked = {"_NDVOL_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **asked}
    )
    *lines, heavy = done.stdout.splitlines()
    assert {line.partition(",")[2] for line in lines} >= found
    assert all(line.partition(",")[2].startswith(words[-1]) for line in lines)
    assert (heavy, done.stderr) == ("HEAVY []", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_says_how_to_install_it(shell):
    script = CliRunner().invoke(main, ["completion", shell]).stdout
    first, rest = script.split("\n", 1)
    assert first.startswith("# To install: ")
    assert f"ndvol completion {shell}" in first
    assert f"_NDVOL_COMPLETE={shell}_complete" in rest
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_bash_completes_by_the_script(tmp_path):
    program = tmp_path / "ndvol"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ndvol "$@"\n')
    program.chmod(0o755)
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    script += "\nCOMP_WORDS=(ndvol exp); COMP_CWORD=1; _ndvol_completion ndvol; echo ${COMPREPLY[@]}"
    found = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=True, env=found)
    assert done.stdout.split() == ["export"]


@pytest.mark.parametrize("code", ["import ndvol", "import ndvol.cli", "import ndvol; dir(ndvol); ndvol.__version__"])
def test_the_start_is_light(code):
    probe = f"{code}; import sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_command_has_help_in_one_sentence():
    context = click.Context(main)
    for name in NAMES:
        command = main.get_command(context, name)
        assert command.help, name
        assert command.help.split("\n")[0].rstrip().endswith("."), name
