"""stack_planes recovers the affine that made the positions, and refuses what is not one regular volume."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import SimpleITK
from hypothesis import assume, given
from hypothesis import strategies as st

from ndvol.errors import GeometryError
from ndvol.geometry import Grid
from ndvol.geometry.planes import PlaneStack, group_places, stack_planes

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Scan:
    """Planes as a scanner would write them, and the truth behind them."""

    positions: np.ndarray
    orientation: np.ndarray
    pixel_spacing: tuple[float, float]
    step: np.ndarray

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.orientation[:3], self.orientation[3:])


@st.composite
def orientations(draw: st.DrawFn) -> np.ndarray:
    """Row and column of a random rotation, exact to the last digits of a double."""
    cosines = st.floats(-1, 1).map(lambda v: round(v, 6))
    matrix = np.array(draw(st.lists(cosines, min_size=9, max_size=9))).reshape(3, 3)
    assume(abs(np.linalg.det(matrix)) > 0.05)
    rotation, _ = np.linalg.qr(matrix)
    return np.concatenate([rotation[:, 0], rotation[:, 1]])


@st.composite
def scans(draw: st.DrawFn, min_planes: int = 2, max_planes: int = 12, min_gap: float = 0.5) -> Scan:
    """Regular planes in order: oblique, with any in-plane spacing, tilted by up to 45 degrees."""
    orientation = draw(orientations())
    row, column = orientation[:3], orientation[3:]
    gap = draw(st.floats(min_gap, 10))
    shear = [draw(st.floats(-0.7, 0.7)) * gap for _ in range(2)]
    step = gap * np.cross(row, column) + shear[0] * row + shear[1] * column
    origin = np.array([draw(st.floats(-400, 400)) for _ in range(3)])
    n = draw(st.integers(min_planes, max_planes))
    spacing = (draw(st.floats(0.1, 5)), draw(st.floats(0.1, 5)))
    return Scan(origin + np.outer(np.arange(n), step), orientation, spacing, step)


def stack(scan: Scan, positions: np.ndarray | None = None) -> PlaneStack:
    return stack_planes(scan.positions if positions is None else positions, scan.orientation, scan.pixel_spacing)


def true_affine(scan: Scan) -> np.ndarray:
    """PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1: a row's index steps down the column direction by the row spacing."""
    affine = np.eye(4)
    affine[:3, 0] = scan.step
    affine[:3, 1] = scan.orientation[3:] * scan.pixel_spacing[0]
    affine[:3, 2] = scan.orientation[:3] * scan.pixel_spacing[1]
    affine[:3, 3] = scan.positions[0]
    return affine


@given(scans(), st.data())
def test_shuffled_oblique_tilted_planes_are_recovered(scan: Scan, data: st.DataObject) -> None:
    shuffle = np.array(data.draw(st.permutations(range(len(scan.positions)))))
    found = stack(scan, scan.positions[shuffle])
    np.testing.assert_array_equal(shuffle[list(found.order)], range(len(shuffle)))
    np.testing.assert_allclose(found.affine, true_affine(scan), rtol=0, atol=1e-9)
    assert found.residual_mm < 1e-9
    cosine = scan.step @ scan.normal / np.linalg.norm(scan.step)
    assert found.tilt_deg == pytest.approx(np.degrees(np.arccos(min(1.0, cosine))), abs=1e-5)
    Grid("zyx", (len(shuffle), 4, 4), found.affine)  # a tilt of 45 degrees is a legal grid


@given(scans())
def test_every_plane_lies_where_it_says(scan: Scan) -> None:
    found = stack(scan)
    grid = Grid("zyx", (len(scan.positions), 3, 5), found.affine)
    for k, source in enumerate(found.order):
        np.testing.assert_allclose(grid.world((k, 0, 0)), scan.positions[source], atol=1e-9)
        corner = (
            scan.positions[source]
            + 2 * scan.orientation[3:] * scan.pixel_spacing[0]
            + 4 * scan.orientation[:3] * scan.pixel_spacing[1]
        )
        np.testing.assert_allclose(grid.world((k, 2, 4)), corner, atol=1e-9)


@given(scans(min_planes=1, max_planes=1), st.floats(0.1, 10))
def test_one_plane_takes_its_thickness(scan: Scan, thickness: float) -> None:
    found = stack_planes(scan.positions, scan.orientation, scan.pixel_spacing, thickness=thickness)
    grid = Grid("zyx", (1, 3, 5), found.affine)
    np.testing.assert_allclose(grid.world((1, 0, 0)) - scan.positions[0], scan.normal * thickness, atol=1e-9)
    assert (found.order, found.residual_mm, grid.origin) == ((0,), 0.0, tuple(scan.positions[0]))
    assert found.tilt_deg == pytest.approx(0, abs=1e-5)


def test_simpleitk_places_an_oblique_series_the_same() -> None:
    """An independent oracle for which of the two in-plane spacings goes with which direction."""
    row, column = np.array([0.6, 0.8, 0.0]), np.array([-0.8, 0.6, 0.0])
    positions = np.array([[5, 6, 7], [5, 6, 9], [5, 6, 11]])
    found = stack_planes(positions, [*row, *column], [0.5, 0.25])
    image = SimpleITK.Image([8, 6, 3], SimpleITK.sitkUInt8)
    image.SetOrigin(positions[0].tolist())
    image.SetSpacing([0.25, 0.5, 2.0])  # x runs along a row, from column to column: PixelSpacing[1]
    image.SetDirection(np.column_stack([row, column, [0, 0, 1]]).ravel().tolist())
    grid = Grid("zyx", (3, 6, 8), found.affine)
    for zyx in ((0, 0, 0), (2, 0, 0), (0, 5, 0), (0, 0, 7), (1, 4, 3)):
        np.testing.assert_allclose(grid.world(zyx), image.TransformIndexToPhysicalPoint(zyx[::-1]), atol=1e-12)


@given(scans(min_planes=8, max_planes=20), st.data())
def test_missing_slices_are_named_with_their_places(scan: Scan, data: st.DataObject) -> None:
    n = len(scan.positions)
    # At most a third of the gaps grow, so that the usual gap stays the usual one; the ends cannot be missed.
    lost = data.draw(st.sets(st.integers(1, n - 2), min_size=1, max_size=n // 4))
    kept = [k for k in range(n) if k not in lost]
    places = [(i, b - a - 1) for i, (a, b) in enumerate(pairwise(kept)) if b - a > 1]
    shuffle = data.draw(st.permutations(kept))
    with pytest.raises(GeometryError, match=rf"^{len(lost)} slices? (is|are) missing; got a gap of ") as caught:
        stack(scan, scan.positions[shuffle])
    assert caught.value.code == "missing-slices"
    assert caught.value.places == places


@given(scans(), st.data())
def test_doubled_slices_are_named_by_their_files(scan: Scan, data: st.DataObject) -> None:
    n = len(scan.positions)
    doubled = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    files = np.array(data.draw(st.permutations([*range(n), *doubled])))
    with pytest.raises(
        GeometryError, match=rf"^{len(doubled)} pairs? of slices lies? at the same position; got"
    ) as caught:
        stack(scan, scan.positions[files])
    assert caught.value.code == "duplicate-slices"
    assert sorted(tuple(sorted(p)) for p in caught.value.pairs) == sorted(
        tuple(int(i) for i in np.flatnonzero(files == k)) for k in doubled
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("gap", [3.0, 3.27, 5.0])
def test_the_jitter_of_real_scanners_is_accepted(gap: float, seed: int) -> None:
    """0.04 mm along the normal, as real PET has it, does not move the grid by more than that."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 200))
    z = np.array([0, 0, 1.0])
    truth = np.outer(33 + np.arange(n) * gap, z)
    jitter = np.outer(rng.uniform(-0.04, 0.04, n), z)
    order = rng.permutation(n)
    found = stack_planes((truth + jitter)[order], AXIAL, (2, 2))
    assert 0 < found.residual_mm <= 0.06
    np.testing.assert_array_equal(order[list(found.order)], range(n))
    fitted = found.affine[:3, 3] + np.outer(np.arange(n), found.affine[:3, 0])
    assert np.abs(fitted - truth).max() <= 0.04
    assert found.residual_mm == pytest.approx(np.linalg.norm(fitted - truth - jitter, axis=1).max())


@given(scans(min_planes=3, min_gap=1.0), st.data())
def test_a_plane_out_of_line_is_refused(scan: Scan, data: st.DataObject) -> None:
    """Shifted within its own plane, so that no gap along the normal shows it."""
    k = data.draw(st.integers(0, len(scan.positions) - 1))
    positions = scan.positions.copy()
    positions[k] += 0.5 * np.linalg.norm(scan.step) * scan.orientation[:3]
    with pytest.raises(GeometryError, match=r"^the slices do not lie on one straight line; got .* mm off at") as caught:
        stack(scan, positions)
    assert caught.value.code == "uneven-slices"


@given(scans(min_planes=4, max_planes=20), st.data(), st.sampled_from([0.85, 1.15, 1.5, 2.4]))
def test_an_uneven_gap_is_refused(scan: Scan, data: st.DataObject, ratio: float) -> None:
    k = data.draw(st.integers(1, len(scan.positions) - 1))
    positions = scan.positions.copy()
    positions[k:] += (ratio - 1) * scan.step
    with pytest.raises(
        GeometryError, match=rf"^the slices are unevenly spaced; .* at slice ({k}|{k + 1}) of "
    ) as caught:
        stack(scan, positions)
    assert caught.value.code == "uneven-slices"
    assert len(caught.value.gaps) == len(positions) - 1
    assert caught.value.gaps[k - 1] == pytest.approx(ratio * (scan.step @ scan.normal))


def test_missing_and_uneven_together_are_uneven() -> None:
    z = [0, 3, 6, 12, 15, 18, 22.5, 25.5]
    with pytest.raises(GeometryError, match=r"got 2 gaps of 3\.000 mm, one of 6\.000 mm, 2 of 3"):
        stack_planes([[0, 0, v] for v in z], AXIAL, (1, 1))


def test_two_planes_make_a_volume() -> None:
    found = stack_planes([[1, 2, 8], [1, 2, 3]], AXIAL, (1, 1), thickness=99)
    assert found.order == (1, 0)
    assert found.affine.tolist() == [[0, 0, 1, 1], [0, 1, 0, 2], [5, 0, 0, 3], [0, 0, 0, 1]]


def test_two_planes_at_one_position_are_duplicates() -> None:
    with pytest.raises(
        GeometryError, match=r"^1 pair of slices lies at the same position; got .* plane 1 and plane 2; "
    ) as e:
        stack_planes([[0, 0, 3], [0, 0, 3]], AXIAL, (1, 1))
    assert (e.value.code, e.value.pairs) == ("duplicate-slices", [(0, 1)])


@given(orientations(), st.integers(4, 7))
def test_rounded_cosines_are_no_tilt(orientation: np.ndarray, digits: int) -> None:
    """Scanners write 5 to 7 digits; the length of the rounded normal must not read as an angle."""
    rounded = np.round(orientation, digits)
    normal = np.cross(rounded[:3], rounded[3:])
    positions = np.outer(np.arange(4), 3 * normal / np.linalg.norm(normal))
    assert stack_planes(positions, rounded, (1, 1)).tilt_deg < 1e-4


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, 1.01, 0),  # not a unit vector
        (1, 0, 0, 0.01, 1, 0),  # not orthogonal
        (1, 0, 0, 1, 0, 0),
        (0,) * 6,
        (1, 0, 0, 0, 1),
        (1, 0, 0, 0, 1, float("nan")),
        (1, 0, 0, 0, 1, ""),
    ],
)
def test_bad_cosines_are_refused(orientation) -> None:
    with pytest.raises(GeometryError, match=r"^ImageOrientationPatient is not two orthogonal unit vectors; got ") as e:
        stack_planes([[0, 0, 0], [0, 0, 1]], orientation, (1, 1))
    assert e.value.code == "bad-orientation"


@pytest.mark.parametrize("spacing", [(1,), (1, 0), (1, -1), (1, float("inf")), (1, 1, 1), ("", "")])
def test_bad_pixel_spacing_is_refused(spacing) -> None:
    with pytest.raises(GeometryError, match=r"^PixelSpacing is not two positive numbers; got ") as caught:
        stack_planes([[0, 0, 0], [0, 0, 1]], AXIAL, spacing)
    assert caught.value.code == "bad-spacing"


@pytest.mark.parametrize(
    "positions", [[], [[0, 0]], [0, 0, 1], [[0, 0, 0], [0, 0, float("nan")]], [[0, 0, 0], [0, 0]], [["", "", ""]]]
)
def test_bad_positions_are_refused(positions) -> None:
    with pytest.raises(GeometryError, match=r"^ImagePositionPatient is not three finite numbers per plane; got") as e:
        stack_planes(positions, AXIAL, (1, 1), thickness=1)
    assert e.value.code == "bad-position"


def test_the_message_shows_plain_numbers() -> None:
    with pytest.raises(GeometryError, match=r"vectors; got 2\.0, 0\.0, 0\.0, 0\.0, 1\.0, 0\.0$"):
        stack_planes([[0, 0, 0]], np.array([2.0, 0, 0, 0, 1, 0]), (1, 1))
    with pytest.raises(GeometryError, match=r"two positive numbers; got 0\.5, 0\.0$"):
        stack_planes([[0, 0, 0]], AXIAL, np.array([0.5, 0]))


@pytest.mark.parametrize("thickness", [None, 0, -2, float("nan"), float("inf")])
def test_one_plane_without_thickness_is_refused(thickness) -> None:
    with pytest.raises(GeometryError, match=r"^a single slice has no spacing along its normal and states no") as caught:
        stack_planes([[0, 0, 0]], AXIAL, (1, 1), thickness=thickness)
    assert caught.value.code == "single-slice"


@given(st.integers(1, 6), st.integers(1, 4), st.floats(0.01, 50), st.randoms(use_true_random=False))
def test_planes_of_one_place_get_one_number(places, times, step, random):
    """place = rank along the normal, whatever the order, the repeats and rounding to 1e-6 of the step."""
    truth = [k for k in range(places) for _ in range(times)]
    random.shuffle(truth)
    depths = [k * step + random.uniform(-1e-6, 1e-6) * step for k in truth]
    assert group_places([[3, -7, d] for d in depths], [1, 0, 0, 0, 1, 0]).tolist() == truth


def test_places_of_an_uneven_stack():
    positions = [[0, 0, z] for z in (0, 5, 5, 5.5, 20, 0)]
    assert group_places(positions, [1, 0, 0, 0, 1, 0]).tolist() == [0, 1, 1, 2, 3, 0]


def test_uneven_gaps_are_told_run_by_run() -> None:
    """A real series: two reconstructions of other spacing that overlap."""
    z = np.cumsum([0, *[4.002] * 14, 1.081, *[6.999] * 13])
    with pytest.raises(GeometryError) as caught:
        stack_planes(np.outer(z, [0, 0, 1]), AXIAL, (1, 1), names=[f"f{k}.dcm" for k in range(len(z))])
    text = "14 gaps of 4.002 mm, one of 1.081 mm, then 13 of 6.999 mm; the first change is at slice 15 of 29 (f14.dcm)"
    assert text in str(caught.value)
    assert caught.value.hint.startswith("export each evenly spaced part")


def test_many_different_gaps_are_summed_up() -> None:
    z = np.cumsum(np.tile([1.0, 2.5, 1.7], 10))
    with pytest.raises(GeometryError, match=r"gaps from 1\.000 to 2\.500 mm, 1\.700 mm as a rule"):
        stack_planes(np.outer(z, [0, 0, 1]), AXIAL, (1, 1))


def test_missing_slices_are_named_by_their_neighbours() -> None:
    z = [9, 0, 3, 12]
    with pytest.raises(GeometryError, match=r"6\.000 mm between slice 2 of 4 \(c\) and the next \(a\)") as caught:
        stack_planes([[0, 0, v] for v in z], AXIAL, (1, 1), names="abcd")
    assert caught.value.places == [(1, 1)]


@given(scans(min_planes=8, max_planes=20), st.data())
def test_masked_gaps_keep_every_plane_in_its_place(scan: Scan, data: st.DataObject) -> None:
    n = len(scan.positions)
    lost = data.draw(st.sets(st.integers(1, n - 2), min_size=1, max_size=n // 4))
    kept = np.array(data.draw(st.permutations([k for k in range(n) if k not in lost])))
    found = stack_planes(scan.positions[kept], scan.orientation, scan.pixel_spacing, on_gap="mask")
    assert found.missing == tuple(sorted(lost))
    assert found.count == n
    np.testing.assert_array_equal(kept[list(found.order)], found.indices)
    np.testing.assert_allclose(found.affine, true_affine(scan), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("z", "code"),
    [
        ([0, 1, 2, 3000, 3001, 3002], "missing-slices"),  # more missing than there
        ([0, 3, 6, 12, 15, 18, 22.5, 25.5], "uneven-slices"),
        ([0, 3, 3, 6], "duplicate-slices"),
    ],
)
def test_what_masking_does_not_excuse(z, code) -> None:
    with pytest.raises(GeometryError) as caught:
        stack_planes([[0, 0, v] for v in z], AXIAL, (1, 1), on_gap="mask")
    assert caught.value.code == code
