"""`ndvol bench`: its figures against what is in the file, and bundles of every kind."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ndvol import bench
from ndvol.cli import main
from ndvol.commands import EXIT_BUG
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid, Window
from ndvol.importing import import_tree
from ndvol.store import open_case


def run(*arguments):
    result = CliRunner().invoke(main, ["bench", *map(str, arguments)])
    return result.exit_code, result.stdout, result.output


@pytest.fixture
def bundle(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("a", (40, 70, 66)), ("b", (20, 64, 64))):
        array = rng.integers(-1000, 1000, shape).astype(np.int16)
        (tmp_path / "raw").mkdir(exist_ok=True)
        write_nifti(tmp_path / "raw" / f"{name}.nii", array, Grid.regular("zyx", shape, spacing=(2, 1, 1)))
    import_tree(tmp_path / "raw", tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_row_per_window(bundle):
    code, out, _ = run(bundle, "-w", 32, "-w", 16, "-n", 3, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["cases"] == ["a", "b"]
    assert [row["window"] for row in answer["rows"]] == [[32, 32, 32], [16, 16, 16]]
    assert all(row["ms"] > 0 and row["x_ram"] > 0 and row["decoded"] >= 1 for row in answer["rows"])
    code, out, _ = run(bundle, "-w", 8, "-n", 2)
    assert code == 0
    assert "8 x 8 x 8" in out
    assert "Larger windows" in out


def test_the_cost_is_that_of_the_chunks(bundle):
    path = bundle / "volumes" / "a.h5"
    volume = open_case(path).images["image"]
    window = Window((10, 30, 33), (8, 8, 33))
    with h5py.File(path, locking=False) as file:
        dataset = file["images/image/0"]
        assert dataset.chunks == (32, 32, 32) == volume.source.chunk
        corners = [(z, y, x) for z in (0,) for y in (0, 32) for x in (32, 64)]
        sizes = [dataset.id.get_chunk_info_by_coord(corner).size for corner in corners]
    # Planes 10 … 17 are in two of the four blocks of a chunk.
    assert bench.cost(volume, window) == (sum(sizes), 4 * 2 * 16 * 32**2)


def test_pictures_are_read_by_other_libraries(tmp_path):
    Image.fromarray(np.zeros((50, 60), np.uint8)).save(tmp_path / "a.png")
    images = [{"id": 1, "file_name": "a.png", "width": 60, "height": 50}]
    path = tmp_path / "data.kwcoco.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    code, out, _ = run(path, "-w", 16, "-n", 2)
    assert code == 0
    assert "other libraries" in out


def test_too_large_for_memory_is_said(bundle, monkeypatch):
    monkeypatch.setattr(bench, "MOST_BYTES", 1000)
    code, _, output = run(bundle)
    assert code == 1
    assert "fits in memory" in output


def test_wrong_voxels_are_an_error(bundle, monkeypatch):
    load = bench.load_cases

    def spoilt(catalog):
        cases = load(catalog)
        for case in cases:
            case.arrays[0] += 1
        return cases

    monkeypatch.setattr(bench, "load_cases", spoilt)
    result = CliRunner().invoke(main, ["bench", str(bundle)])
    assert result.exit_code == EXIT_BUG
    assert "differs from the volume that it is a part of" in result.stderr
