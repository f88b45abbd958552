"""Pyramid levels and codecs of an import."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from ndvol.cli import main
from ndvol.errors import OptionError
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid
from ndvol.geometry.pyramid import level_factors, level_grids, level_means
from ndvol.importing import ImportOptions, import_tree
from ndvol.levels import at_level
from ndvol.opening import open_catalog
from ndvol.store import CODECS, verify_file

GRID = Grid.regular("zyx", (7, 33, 50), spacing=(3, 1, 1), origin=(-5, 4, 20))
IMAGE = (np.random.default_rng(0).normal(size=GRID.shape) * 100).astype(np.int16)


@pytest.fixture
def raw(tmp_path):
    labels = np.zeros(GRID.shape, np.uint8)
    labels[1:3, 2:20, 3:30] = 1
    write_nifti(tmp_path / "raw" / "images" / "a.nii.gz", IMAGE, GRID)
    write_nifti(tmp_path / "raw" / "labels" / "a.nii.gz", labels, GRID)
    return tmp_path / "raw"


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_an_import_makes_the_levels_that_were_asked_for(raw, tmp_path, codec):
    result = CliRunner().invoke(
        main, ["import", str(raw), str(tmp_path / "out"), "--levels", "3", "--codec", codec, "-j", "0"]
    )
    assert result.exit_code == 0, result.output
    [case] = open_catalog(tmp_path / "out").values()
    [image], [label] = case.images.values(), case.labels.values()
    grids = level_grids(image.grid, 3)
    assert [image.levels, label.levels, len(grids)] == [3, 3, 2]
    means = level_means(np.asarray(image), level_factors(image.grid, grids))
    for level, (grid, mean) in enumerate(zip(grids, means, strict=True), start=1):
        assert image.level_grid(level) == label.level_grid(level) == grid
        np.testing.assert_array_equal(at_level(image, level), mean)
        assert set(np.unique(at_level(label, level))) == {0, 1}
    path = tmp_path / "out" / "volumes" / f"{case.name}.h5"
    assert verify_file(path) == []
    with h5py.File(path, "r", locking=False) as file:
        filters = [file["images"][image.name][str(k)].id.get_create_plist().get_nfilters() for k in range(3)]
    assert filters == [{"none": 1, "portable": 3}.get(codec, 2)] * 3


def test_levels_and_codec_decide_whether_a_case_is_made_again(raw, tmp_path):
    made = {}
    for name, options in {"a": {}, "b": {"levels": 2}, "c": {"codec": "small"}, "d": {}}.items():
        [record] = import_tree(raw, tmp_path / "out", options=ImportOptions(**options)).records.values()
        made[name] = record.attributes["uuid"], record.sha256
    assert made["a"] == made["d"]
    assert len(set(made.values())) == 3


@pytest.mark.parametrize(("options", "what"), [({"levels": 0}, "levels; got 0"), ({"codec": "zip"}, "codec; got zip")])
def test_unknown_choices_are_refused(options, what):
    with pytest.raises(OptionError, match=f"unknown {what}; expected one of"):
        ImportOptions(**options)
