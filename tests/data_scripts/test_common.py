"""The command line of the scripts, and what they print."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ndvol.errors import SourceError

SCRIPTS = Path(__file__).parents[2] / "data_scripts"
SETS = sorted(path.stem for path in SCRIPTS.glob("*.py") if path.stem != "common")


def run_script(name, *arguments):
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS.parent)}
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_there_is_a_script_for_every_set():
    assert SETS == ["amos", "brats", "fastmri", "ibsi", "kits", "lidc", "msd", "totalsegmentator", "vs_seg"]


@pytest.mark.parametrize("name", SETS)
def test_every_script_says_what_its_user_must_know(script, name):
    text = script(name).__doc__
    for word in ("What  ", "Licence  ", "Get it  ", "Cite  ", "Checksum", "Layout", "Tested on", f"{name}.py "):
        assert word in text, word
    assert len((SCRIPTS / f"{name}.py").read_text().split("ndvol.import_tree(")) == 2


def test_it_runs_as_a_program(tmp_path, nifti):
    for case, values in (("case_00000", (1, 3)), ("case_00001", (7,))):
        nifti(tmp_path / "dataset" / case / "imaging.nii.gz")
        nifti(tmp_path / "dataset" / case / "segmentation.nii.gz", values)
    done = run_script("kits", tmp_path / "dataset", tmp_path / "bundle", "--jobs", 0)
    assert (done.returncode, done.stderr) == (3, "")
    refused, *table = done.stdout.splitlines()
    assert refused.startswith(
        "case_00001/segmentation.nii.gz: label 'segmentation' holds values that the category table"
    )
    assert [line.split()[0] for line in table[1:-2]] == ["imported", "imported", "refused"]
    assert table[-2].startswith("2 cases of 4 files, ")
    assert table[-1] == f"the warnings stand in {tmp_path}/bundle/import.jsonl"


def test_a_wrong_folder_is_one_line_and_no_traceback(tmp_path):
    done = run_script("kits", tmp_path / "nothing", tmp_path / "bundle")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{tmp_path}/nothing holds no folders case_*; got no folder; expected case_*/imaging.nii.gz and "
        "case_*/segmentation.nii.gz; give the folder that holds them [layout]\n"
    )


def test_links_are_gone_after_a_failure(tmp_path, script):
    (tmp_path / "a").write_text("x")

    def fail():
        with script("common").linked(tmp_path / "b", {"c/d": tmp_path / "a"}) as folder:
            assert (folder / "c" / "d").read_text() == "x"
            raise SourceError("stop")

    with pytest.raises(SourceError, match="stop"):
        fail()
    assert not (tmp_path / "b" / ".links").exists()
    assert (tmp_path / "a").exists()


def test_its_examples(script):
    assert doctest.testmod(script("common")) == doctest.TestResults(0, 1)
