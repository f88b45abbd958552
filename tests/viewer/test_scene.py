"""What the page is told of a case: where planes lie on the screen, labels over images, objects, voxels and windows."""

from __future__ import annotations

import json

import h5py
import hdf5plugin  # noqa: F401  the codecs of the files, for plain h5py
import numpy as np
import pytest

from ndvol import Negative, Positive, VolumeSampler
from ndvol.display.planes import plane_views
from ndvol.geometry import Grid
from ndvol.toy import ToyOptions, toy_catalog
from ndvol.viewer.scene import axis_map, sample_values, screen_steps
from ndvol.viewer.voxels import voxel_facts
from ndvol.volumes import ArrayLabelSource, ArraySource, Case, LabelVolume, Volume

AXIAL = Grid.regular("zyx", (6, 8, 10), spacing=(4, 2, 1), origin=(-5, 3, 100))


def turned(grid: Grid, angle: float) -> Grid:
    turn, (c, s) = np.eye(4), (np.cos(angle), np.sin(angle))
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    return Grid(grid.axes, grid.shape, turn @ grid.affine)


def tilted_gantry(grid: Grid, shift: float) -> Grid:
    """Every plane lies `shift` mm further to posterior than the one below."""
    affine = grid.affine.copy()
    affine[1, 0] += shift
    return Grid(grid.axes, grid.shape, affine)


def test_an_axial_grid_lies_on_the_screen_as_readers_expect():
    axial, coronal, sagittal = (screen_steps(AXIAL, view) for view in plane_views(AXIAL))
    assert axial == {"y": [0, 2], "x": [1, 0]}
    assert coronal == {"z": [0, -4], "x": [1, 0]}
    assert sagittal == {"z": [0, -4], "y": [2, 0]}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_backward_axis_is_drawn_backward(axis):
    flipped = AXIAL.flip(axis)
    for view, other in zip(plane_views(AXIAL), plane_views(flipped), strict=True):
        for name, step in screen_steps(AXIAL, view).items():
            sign = -1 if name == "zyx"[axis] else 1
            assert screen_steps(flipped, other)[name] == [sign * v for v in step]


@pytest.mark.parametrize("grid", [turned(AXIAL, 0.4), tilted_gantry(AXIAL, 1.5), tilted_gantry(AXIAL, -1.5).flip(0)])
def test_lengths_and_angles_on_the_screen_are_those_of_the_body(grid):
    columns = {a: grid.affine[:3, k] for k, a in enumerate(grid.axes)}
    for view in plane_views(grid):
        steps = screen_steps(grid, view)
        for one in view.axes:
            for other in view.axes:
                on_screen = np.dot(steps[one], steps[other])
                assert on_screen == pytest.approx(columns[one] @ columns[other])


def test_a_map_puts_every_voxel_of_the_image_where_it_is_in_the_world():
    fine = Grid.regular("zyx", (6, 40, 50), spacing=(3, 1, 1), origin=(-5, 3, 100))
    coarse = Grid.regular("zyx", (9, 12, 10), spacing=(2, 4, 5), origin=(-9, 1, 98))
    found = axis_map(fine, coarse)
    for index in ((0, 0, 0), (5, 39, 49), (2, 7, 31)):
        mapped = np.array(found["scale"]) * index + found["offset"]
        np.testing.assert_allclose(coarse.world(mapped), fine.world(index), atol=1e-6)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (AXIAL, turned(AXIAL, 0.1)),
        (AXIAL, AXIAL.flip(0)),
        (AXIAL, Grid.regular("zyx", (6, 8, 9), spacing=(4, 2, 1), frame="LOCAL")),
        (AXIAL, Grid.regular("yx", (8, 10), spacing=(2, 1))),
    ],
)
def test_a_label_that_cannot_be_laid_over_has_no_map(image, label):
    assert axis_map(image, label) is None


def test_a_label_without_the_image_s_times_lies_on_it():
    image = Grid("tzyx", (3, *AXIAL.shape), AXIAL.affine)
    assert axis_map(image, AXIAL) == {"scale": [1, 1, 1], "offset": [0, 0, 0]}


def test_every_answer_is_json_of_finite_numbers(toy):
    status, case = toy.ask("case", case="toy")
    assert status == 200
    [image], [label] = case["images"], case["labels"]
    assert (image["shape"], image["dtype"], image["wire"]) == ([21, 44, 38], "int16", "int16")
    assert [level["factor"] for level in image["levels"]] == [[1, 1, 1], [1, 2, 2], [2, 4, 4]]
    assert [(p["name"], p["across"]) for p in image["planes"]] == [("axial", "z"), ("coronal", "y"), ("sagittal", "x")]
    assert [v["category"] for v in label["values"]] == ["liver", "kidney", "cyst", "tumor", "calcification"]
    assert label["maps"] == {"CT": {"scale": [1, 1, 1], "offset": [0, 0, 0]}}
    affine = np.array(image["affine"])
    np.testing.assert_allclose(affine @ np.array(image["inverse"]), np.eye(4), atol=1e-12)


def test_cases_and_objects_are_found_and_cut_into_pages(serve):
    catalog = toy_catalog(250, ToyOptions(shape=(4, 12, 12)))
    client = serve(catalog)
    first, second = client.ask("cases")[1], client.ask("cases", first=200)[1]
    assert (first["total"], len(first["rows"]), len(second["rows"])) == (250, 200, 50)
    assert [row["case"] for row in client.ask("cases", find="TOY-24")[1]["rows"]] == [
        "toy-24",
        *(f"toy-24{k}" for k in range(10)),
    ]
    objects = catalog.record("toy-3").objects
    rows = client.ask("objects", case="toy-3")[1]["rows"]
    assert sorted(row["object"] for row in rows) == list(range(len(objects)))
    assert [row["voxels"] for row in rows] == sorted(objects.voxels.tolist(), reverse=True)
    for row in rows:
        k = row["object"]
        assert (row["start"], row["stop"]) == (objects.start[k].tolist(), objects.stop[k].tolist())
        assert row["category"] == catalog.categories.names[objects.category[k]]
    found = client.ask("objects", case="toy-3", find="Calc")[1]["rows"]
    assert found == [row for row in rows if row["category"] == "calcification"]


def test_presets_are_those_of_the_modality(toy):
    assert [row["name"] for row in toy.ask("presets", case="toy")[1]][:2] == ["soft tissue", "lung"]


def test_the_values_for_presets_come_from_all_over_a_large_volume():
    array = np.zeros((7, 200, 300), np.uint8)
    array[:, ::40] = 9
    array[[0, 3, 6], 5:] += np.array([1, 2, 3], np.uint8)[:, None, None]
    array[[1, 2, 4, 5]] = 99
    volume = Volume("toy", Grid.regular("tyx", array.shape), ArraySource(array))
    values = sample_values(volume)
    assert values.size == 3 * 25 * 16 * 16
    assert set(values.tolist()) == {0, 9, 1, 2, 3, 10, 11, 12}


def test_a_voxel_is_told_as_it_is_stored(toy, bundle):
    with h5py.File(bundle / "volumes" / "toy.h5", locking=False) as file:
        image, labels = file["images/CT/0"][...], file["labels/labels/0"][...]
    for at in ((0, 0, 0), (20, 43, 37), (10, 20, 12)):
        found = toy.ask("voxel", case="toy", at=",".join(map(str, at)))[1]
        assert found["values"] == [str(image[at])]
        assert found["labels"]["labels"]["value"] == str(labels[at])
        np.testing.assert_allclose(found["world"], [-20 + 1.5 * at[2], 10 + 1.5 * at[1], 5 + 3 * at[0]])
    assert toy.ask("voxel", case="toy", at="21,0,0")[1]["values"] == []


def test_a_voxel_of_another_grid_is_the_nearest_in_the_world():
    array = np.random.default_rng(0).integers(1, 99, (6, 8, 10), np.uint8)
    far, seen = turned(AXIAL, 0.05), 0
    image = Volume("CT", AXIAL, ArraySource(array.astype(np.float64) + 0.25))
    label = LabelVolume("L", far, ArrayLabelSource(array), categories={int(v): f"v{v}" for v in np.unique(array)})
    for at in np.ndindex(6, 8, 10):
        found = voxel_facts(Case("a", {"CT": image}, {"L": label}), image, at, {})
        index = tuple(np.rint(far.index(AXIAL.world(at))).astype(int))
        inside = all(0 <= i < n for i, n in zip(index, far.shape, strict=True))
        expected = {"L": {"value": str(array[index]), "category": f"v{array[index]}"}} if inside else {}
        assert (found["values"], found["labels"]) == ([str(array[at] + 0.25)], expected)
        seen += inside
    assert 100 < seen < array.size


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_voxel_that_is_no_number_is_text(serve, value):
    catalog = toy_catalog(1, ToyOptions("yx"))
    volume = Volume("image", Grid.regular("yx", (2, 2)), ArraySource(np.full((2, 2), value, np.float32)))
    catalog._open_case = lambda record: Case(record.name, {"image": volume}, {})
    client = serve(catalog)
    assert client.ask("voxel", case="toy-0", at="0,1")[1]["values"] == [str(value)]
    assert client.ask("presets", case="toy-0")[0] == 200


def test_windows_are_those_of_the_sampler(serve):
    catalog = toy_catalog(3, ToyOptions("tzyx", (2, 10, 40, 30)))
    answer = serve(catalog).ask(
        "windows", case="toy-1", window="4,8,8", categories="lesion\ncalcification", positive=5, negative=4, seed=7
    )[1]
    names = ("lesion", "calcification")
    expected = []
    for strategy, count in ((Positive(names), 5), (Negative(names), 4)):
        sampler = VolumeSampler(catalog.subset(["toy-1"]), (4, 8, 8), strategy=strategy, seed=7, length=count)
        expected += [sampler.target(i) for i in range(count)]
    assert (answer["image"], answer["axes"], answer["problems"]) == ("image", "tzyx", [])
    assert [row["role"] for row in answer["windows"]] == ["positive"] * 5 + ["negative"] * 4
    for row, target in zip(answer["windows"], expected, strict=True):
        assert (tuple(row["start"]), tuple(row["stop"])) == (target.window.start, target.window.stop)
        assert (row["category"], row["leaf"]) == (target.category or "", target.leaf or "")
    [code, _] = answer["code"].values()
    assert (
        code == "ndvol.VolumeSampler(catalog, (4, 8, 8), strategy=ndvol.Positive(['lesion', 'calcification']), seed=7)"
    )


def test_windows_of_all_cases_and_a_role_that_cannot_be_drawn(serve):
    client = serve(toy_catalog(3))
    answer = client.ask("windows", window="8,16,16", positive=30, negative=0)[1]
    assert {row["case"] for row in answer["windows"]} == {"toy-0", "toy-1", "toy-2"}
    answer = client.ask("windows", window="24,64,64", positive=2, negative=2)[1]
    assert [row["role"] for row in answer["windows"]] == ["positive"] * 2
    [problem] = answer["problems"]
    assert problem["role"] == "negative"
    assert "no window of (24, 64, 64) voxels is negative" in problem["error"]
    assert json.dumps(answer, allow_nan=False)
