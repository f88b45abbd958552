"""Contours of one ROI and plane: what is inside, by each rule for holes, against skimage one polygon at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import polygon2mask
from skimage.measure import points_in_poly
from structure_files import CLOSED, write_rt

from ndvol.errors import OptionError
from ndvol.formats import ReadOptions
from ndvol.formats.polygons import fill_polygons
from ndvol.formats.rtstruct import RtstructReader
from ndvol.geometry import Grid

SHAPE = (24, 21)
RULES = ("auto", "xor", "union")


def star(rng, centre, radius, corners=9):
    """A polygon without crossings, whose vertices lie up to `radius` around `centre`; some of them twice."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    lengths = radius * rng.uniform(0.5, 1, corners)
    polygon = np.array(centre) + np.stack([np.sin(angles), np.cos(angles)], 1) * lengths[:, None]
    return np.repeat(polygon, rng.integers(1, 3, corners), axis=0)


def combined(polygons, rule):
    """The law of the rules, from the masks of single polygons."""
    masks = [polygon2mask(SHAPE, p) for p in polygons]
    if rule == "union":
        return np.logical_or.reduce(masks)
    if rule == "xor":
        return np.logical_xor.reduce(masks)
    depths = [
        sum(j != k and points_in_poly(inner, outer).all() for j, outer in enumerate(polygons))
        for k, inner in enumerate(polygons)
    ]
    filled = np.zeros(SHAPE, bool)
    for depth, mask in sorted(zip(depths, masks, strict=True), key=lambda pair: pair[0]):
        filled = filled & ~mask if depth % 2 else filled | mask
    return filled


def on_full_size(filled):
    whole = np.zeros(SHAPE, bool)
    whole[tuple(slice(a, a + n) for a, n in zip(filled.start, filled.mask.shape, strict=True))] = filled.mask
    return whole


@pytest.mark.parametrize("rule", RULES)
@given(st.integers(0, 10**6))
def test_random_polygons_apart_crossing_and_nested(rule, seed):
    rng = np.random.default_rng(seed)
    polygons = [star(rng, rng.uniform(0, 22, 2), rng.uniform(1, 9)) for _ in range(3)]
    # A family of shrunk copies is nested for sure: a hole, an island in it, and another hole.
    centre, base = (12.3, 10.7), star(rng, (0, 0), 9.5)
    polygons += [base * share + centre for share in (1, 0.7, 0.45, 0.2)]
    rng.shuffle(polygons)
    filled = fill_polygons(polygons, SHAPE, holes=rule)
    np.testing.assert_array_equal(on_full_size(filled), combined(polygons, rule))
    counts = np.sum([polygon2mask(SHAPE, p) for p in polygons], axis=0)
    assert filled.overlap == (counts > 1).any()


@pytest.mark.parametrize("rule", RULES)
def test_nested_polygons_tell_the_rules_apart(rule):
    square = np.array([[0.5, 0.5], [0.5, 19.5], [19.5, 19.5], [19.5, 0.5]])
    nested = [(square - 10) * share + 10 for share in (1, 0.6, 0.2)]
    areas = [int(polygon2mask(SHAPE, p).sum()) for p in nested]
    wanted = areas[0] if rule == "union" else areas[0] - areas[1] + areas[2]
    assert fill_polygons(nested, SHAPE, holes=rule).mask.sum() == wanted
    crossing = [square, square + np.array([3, 0])]
    shared = 16 * 19
    assert fill_polygons(crossing, SHAPE, holes=rule).mask.sum() == 22 * 19 - shared * (rule == "xor")


@pytest.mark.parametrize("rule", RULES)
def test_polygons_that_touch_and_polygons_given_twice(rule):
    left = np.array([[2.5, 2.5], [9.5, 2.5], [9.5, 7.5], [2.5, 7.5]])
    right = left + np.array([0, 5])
    filled = fill_polygons([left, right, left.copy(), right.copy()], SHAPE, holes=rule)
    np.testing.assert_array_equal(on_full_size(filled), combined([left, right], "union"))
    assert not filled.overlap


# Through the reader.

SQUARE, HOLE = [(1, 1), (1, 15), (17, 15), (17, 1)], [(4.5, 4.5), (4.5, 9.5), (9.5, 9.5), (9.5, 4.5)]


def read(tmp_path, rois, rule="auto"):
    grid = Grid.regular("zyx", (4, *SHAPE), spacing=(3, 1, 1), origin=(-20, 5, 100))
    write_rt(tmp_path / "rs.dcm", grid, rois)
    reader = RtstructReader()
    [series] = reader.scan(tmp_path, ["rs.dcm"], ReadOptions(holes=rule)).series
    [volume] = reader.read_structures(tmp_path, series, grid)
    return volume


@pytest.mark.parametrize("rule", RULES)
def test_the_choice_reaches_the_voxels_and_is_recorded_for_rois_that_it_matters_for(tmp_path, rule):
    ring = [(CLOSED, k, p) for k in (1, 2) for p in (SQUARE, HOLE)]
    apart = [(CLOSED, 0, SQUARE), (CLOSED, 3, HOLE)]
    volume = read(tmp_path, {"Ring": ring, "Solid": apart}, rule)
    hole = volume.array[1, 5:10, 5:10]
    assert (hole == (1 if rule == "union" else 0)).all()
    np.testing.assert_array_equal(volume.array[1] == 1, combined([np.array(SQUARE), np.array(HOLE)], rule))
    np.testing.assert_array_equal(volume.array[3] == 2, combined([np.array(HOLE)], rule))
    assert volume.warnings == (
        f"ROIs with contours inside or across each other, and in how many planes (holes: {rule}): Ring (2)",
    )
    assert read(tmp_path, {"Solid": apart}, rule).warnings == ()


def test_xor_contours_are_honoured_by_auto_and_overruled_by_union(tmp_path):
    contours = [("CLOSEDPLANAR_XOR", 1, p) for p in (SQUARE, HOLE)]
    assert [int(read(tmp_path, {"A": contours}, rule).array[1, 7, 7]) for rule in RULES] == [0, 0, 1]


def test_other_rules_are_refused():
    with pytest.raises(OptionError, match="holes is no way"):
        ReadOptions(holes="fill")


def test_contours_between_planes_points_and_open_contours_do_not_hide(tmp_path):
    rois = {
        "A": [(CLOSED, 1, SQUARE), ("OPEN_PLANAR", 1, HOLE), ("POINT", 1, [(3, 3)]), ("OPEN_NONPLANAR", 2, HOLE)],
        "Marker": [("POINT", 1, [(3, 3)])],
        "Empty": [],
    }
    volume = read(tmp_path, rois)
    assert volume.categories == {1: "A"}
    assert volume.warnings == (
        "contours of ROI 'A' that are no area are left out: OPEN_PLANAR (1), POINT (1), OPEN_NONPLANAR (1)",
        "contours of ROI 'Marker' that are no area are left out: POINT (1)",
        "ROIs without a closed contour are left out: Marker, Empty",
    )
