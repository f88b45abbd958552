"""Names of structures become categories by the table, and categories of several volumes are merged by priority."""

import itertools
import json

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from structure_files import CLOSED, write_rt, write_seg

from ndvol.cli import main
from ndvol.errors import CategoryError, ImportFailedError, OptionError
from ndvol.formats import ReadOptions
from ndvol.formats.writing import write_dicom_series, write_nifti
from ndvol.geometry import Grid, Reorientation
from ndvol.importing import ImportOptions, import_tree
from ndvol.importing.labels import Label
from ndvol.importing.merging import merged
from ndvol.importing.options import categories_of_names, folded

GRID = Grid.regular("zyx", (4, 12, 10), spacing=(3, 1, 1), origin=(-5, 4, 20))
TABLE = (
    {"name": "lesion"},
    {"name": "tumor", "supercategory": "lesion", "names": ["GTV-1", "gtv p"]},
    {"name": "liver", "names": ["Leber"]},
)
STRICT, KEEP = ImportOptions(phi="strict", categories=TABLE), ImportOptions(phi="keep", categories=TABLE)


def boxes(**structures):
    """Name -> mask, from name -> (start, stop) along y; all over x, on planes 1 and 2."""
    found = {}
    for name, (start, stop) in structures.items():
        found[name] = np.zeros(GRID.shape, np.uint8)
        found[name][1:3, start:stop] = 1
    return found


def write_masks(root, masks, case="s1"):
    write_nifti(root / case / "ct.nii.gz", np.zeros(GRID.shape, np.int16), GRID)
    for name, mask in masks.items():
        write_nifti(root / case / "segmentations" / f"{name}.nii.gz", mask, GRID)


def write_series(root):
    return [pydicom.dcmread(f) for f in write_dicom_series(root / "ct", np.zeros(GRID.shape, np.int16), GRID)]


def write_as_seg(root, masks):
    write_seg(root / "seg.dcm", write_series(root), np.stack(list(masks.values()), -1), "BINARY", list(masks))


def write_as_rtstruct(root, masks):
    image = write_series(root)[0]
    rois = {}
    for name, mask in masks.items():
        planes, rows, columns = (np.flatnonzero(mask.any(axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        (top, left), (bottom, right) = (rows[0] - 0.4, columns[0] - 0.4), (rows[-1] + 0.4, columns[-1] + 0.4)
        corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
        rois[name] = [(CLOSED, int(k), corners) for k in planes]
    write_rt(root / "rs.dcm", GRID, rois, frame=image.FrameOfReferenceUID, series=image.SeriesInstanceUID)


WRITERS = {"masks": write_masks, "SEG": write_as_seg, "RTSTRUCT": write_as_rtstruct}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


def imported(tmp_path, options, source="raw"):
    catalog = import_tree(tmp_path / source, tmp_path / "bundle", options=options)
    [case] = catalog.values()
    return catalog, case


def by_category(case):
    """(volume, category) -> mask, values of one category together."""
    found = {}
    for label in case.labels.values():
        for value, name in label.categories.items():
            found[label.name, name] = found.get((label.name, name), False) | (np.asarray(label) == value)
    return found


def messages(catalog):
    return "; ".join(v.message for v in catalog.verdicts if v.case)


def test_aliases_become_categories_with_their_tree_and_originals_are_kept(tmp_path, write):
    masks = boxes(**{"GTV-1": (0, 2), "gtv  P": (4, 6), "LEBER": (7, 9), "Cord": (10, 12)})
    write(tmp_path / "raw", masks)
    catalog, case = imported(tmp_path, ImportOptions(categories=TABLE))
    assert catalog.categories.descendants("lesion") == ("tumor",)
    [label] = case.labels.values()
    # Two structures of one category keep values of their own.
    assert sorted(label.categories.values()) == ["Cord", "liver", "tumor", "tumor"]
    found = {name: mask for (_, name), mask in by_category(case).items()}
    np.testing.assert_array_equal(found["tumor"], (masks["GTV-1"] | masks["gtv  P"]) > 0)
    np.testing.assert_array_equal(found["liver"], masks["LEBER"] > 0)
    named = {label.categories[int(v)]: names for v, names in label.attributes["source_names"].items()}
    assert set(named) == {"tumor", "liver"}
    assert {n for names in label.attributes["source_names"].values() for n in names} == set(masks) - {"Cord"}
    assert "the category table does not name Cord" in messages(catalog)
    sizes = catalog.records[case.name].objects.voxels
    assert sorted(sizes) == sorted(int(mask.sum()) for mask in masks.values())


def test_structures_of_one_category_that_overlap_stay_in_layers(tmp_path, write):
    masks = boxes(**{"GTV-1": (0, 5), "gtv p": (3, 8)})
    write(tmp_path / "raw", masks)
    _, case = imported(tmp_path, ImportOptions(categories=TABLE))
    assert [set(label.categories.values()) for label in case.labels.values()] == [{"tumor"}, {"tumor"}]
    found = list(by_category(case).values())
    assert {mask.tobytes() for mask in found} == {(mask > 0).tobytes() for mask in masks.values()}


def test_strict_says_names_of_the_table_and_nothing_of_the_source(tmp_path, write):
    write(tmp_path / "raw", boxes(**{"GTV-1": (0, 2), "Muellers Organ": (4, 6)}))
    catalog, case = imported(tmp_path, STRICT)
    [label] = case.labels.values()
    one, other = sorted(label.categories.values(), reverse=True)
    assert one == "tumor"
    assert other.startswith("structure-")
    assert "source_names" not in label.attributes
    assert "Muellers" not in messages(catalog) + (tmp_path / "bundle" / "import.jsonl").read_text()
    assert all(b"Muellers" not in f.read_bytes() and b"GTV" not in f.read_bytes() for f in tmp_path.rglob("*.h5"))


def test_without_a_table_names_stay(tmp_path, write):
    write(tmp_path / "raw", boxes(**{"GTV-1": (0, 2), "Cord": (4, 6)}))
    catalog, case = imported(tmp_path, ImportOptions())
    [label] = case.labels.values()
    assert sorted(label.categories.values()) == ["Cord", "GTV-1"]
    assert "source_names" not in label.attributes
    assert messages(catalog).strip("; ") == ""


def test_names_compare_without_case_blanks_and_coding_of_accents():
    assert categories_of_names(({"name": "Läsion", "names": [" a  B"]},)) == {
        folded("LA\u0308SION"): "Läsion",
        "a b": "Läsion",
    }


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (({"name": "a", "names": ["x"]}, {"name": "b", "names": ["X "]}), "'a' and 'b' have one name"),
        (({"name": "a"}, {"name": "b", "names": ["A"]}), "'a' and 'b' have one name"),
        (({"name": "a", "names": "x"},), "must be a list of names"),
        (({"name": "a", "names": [""]},), "must be a list of names"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(table, fault):
    with pytest.raises(CategoryError, match=fault):
        ImportOptions(categories=table)


# Merging.


def test_the_first_named_wins_where_categories_overlap(tmp_path, write):
    masks = boxes(Liver=(0, 8), **{"GTV-1": (5, 10), "gtv p": (1, 3)}, Cord=(10, 12))
    write(tmp_path / "raw", masks)
    catalog, case = imported(tmp_path, ImportOptions(categories=TABLE, merge=("tumor", "liver")))
    label = case.labels["merged"]
    assert label.categories == {1: "tumor", 2: "liver"}
    tumor = (masks["GTV-1"] | masks["gtv p"]) > 0
    np.testing.assert_array_equal(np.asarray(label), np.where(tumor, 1, np.where(masks["Liver"] > 0, 2, 0)))
    assert label.attributes["source_names"]["1"] == ["GTV-1", "gtv p"]
    lost = int((tumor & (masks["Liver"] > 0)).sum())
    assert f"merging gave {lost} voxels of liver to a category that comes before" in messages(catalog)
    [rest] = [v for v in case.labels.values() if v.name != "merged"]
    assert list(rest.categories.values()) == ["Cord"]
    np.testing.assert_array_equal(np.asarray(rest) != 0, masks["Cord"] > 0)


def test_categories_of_several_sources_are_merged(tmp_path):
    masks = boxes(liver=(0, 8), tumor=(5, 10))
    image = write_series(tmp_path / "raw")
    for name, mask in masks.items():
        write_seg(tmp_path / "raw" / f"{name}.dcm", image, mask, "BINARY", [name])
    catalog, case = imported(tmp_path, ImportOptions(merge=("tumor", "liver")))
    assert list(case.labels) == ["merged"]
    expected = np.where(masks["tumor"], 1, np.where(masks["liver"], 2, 0))
    np.testing.assert_array_equal(case.labels["merged"], expected)
    assert {v.case for v in catalog.verdicts} == {case.name}


def test_a_case_without_a_category_that_the_table_has_goes_on_and_others_are_refused(tmp_path, write):
    write(tmp_path / "raw", boxes(liver=(0, 8)))
    _, case = imported(tmp_path, ImportOptions(categories=TABLE, merge=("tumor", "liver")))
    assert case.labels["merged"].categories == {2: "liver"}
    with pytest.raises(ImportFailedError) as caught:
        import_tree(tmp_path / "raw", tmp_path / "other", options=ImportOptions(merge=("tumour", "liver")))
    assert {v.code for v in caught.value.verdicts if v.status == "refused"} == {"merge-unknown"}
    assert "tumour" in str(caught.value)


def test_a_changed_choice_is_noticed(tmp_path):
    write_masks(tmp_path / "raw", boxes(liver=(0, 8), tumor=(5, 10)))
    names = []
    for merge in ((), ("tumor", "liver"), ("liver", "tumor"), ()):
        catalog, case = imported(tmp_path, ImportOptions(merge=merge))
        names.append(sorted(case.labels))
        assert {v.status for v in catalog.verdicts} <= {"imported", "imported with warnings"}
    assert names == [["segmentations", "segmentations-2"], ["merged"], ["merged"], ["segmentations", "segmentations-2"]]
    assert {v.status for v in imported(tmp_path, ImportOptions())[0].verdicts} == {"unchanged"}


def test_the_rule_for_holes_is_an_option_that_is_noticed(tmp_path):
    image = write_series(tmp_path / "raw")[0]
    outer, inner = [(0, 0), (0, 9), (9, 9), (9, 0)], [(2.5, 2.5), (2.5, 6.5), (6.5, 6.5), (6.5, 2.5)]
    rois = {"Ring": [(CLOSED, 1, outer), (CLOSED, 1, inner)]}
    uids = {"frame": image.FrameOfReferenceUID, "series": image.SeriesInstanceUID}
    write_rt(tmp_path / "raw" / "rs.dcm", GRID, rois, **uids)
    found = {}
    for rule in ("auto", "union"):
        catalog, case = imported(tmp_path, ImportOptions(reading=ReadOptions(holes=rule)))
        found[rule] = int(np.asarray(case.labels["structures"]).sum())
        assert f"(holes: {rule}): Ring (1)" in messages(catalog)
    assert found == {"auto": 100 - 16, "union": 100}


def label_of(array, categories, name="a", grid=None):
    turn = Reorientation((0, 1), (False, False))
    grid = grid or Grid.regular("yx", array.shape)
    return Label(name, array, grid, turn, categories, {f"{name}.nii": ()})


@pytest.mark.parametrize("seed", range(20))
def test_merging_keeps_every_voxel_of_the_first_and_counts_the_rest(seed):
    rng = np.random.default_rng(seed)
    names = ("a", "b", "c")
    # Layers as structures come: one category in several, values of their own, others that stay.
    layers = [{1: "a", 5: "b", 9: "z"}, {2: "c", 300: "a"}, {4: "b", 7: "c"}]
    labels = [
        label_of(rng.choice([0, *layer], (7, 8)).astype(np.uint16), layer, name=str(k))
        for k, layer in enumerate(layers)
    ]
    order = tuple(rng.permutation(names))
    found = {v.name: v for v in merged(iter(labels), ImportOptions(merge=order))}
    claims = {
        name: np.logical_or.reduce([x.array == v for x in labels for v, n in x.categories.items() if n == name])
        for name in names
    }
    wanted = np.zeros((7, 8), int)
    for place, name in reversed(list(enumerate(order, start=1))):
        wanted[claims[name]] = place
    np.testing.assert_array_equal(found["merged"].array, wanted)
    assert found["merged"].categories == dict(enumerate(order, start=1))
    contested = sum(claims.values()) > 1
    [said] = [w for warnings in found["merged"].warnings.values() for w in warnings]
    assert said.startswith(f"merging gave {contested.sum()} voxels of ")
    losers = [n for k, n in enumerate(order) if any((claims[n] & claims[m]).any() for m in order[:k])]
    assert said == f"merging gave {contested.sum()} voxels of {', '.join(losers)} to a category that comes before"
    assert sorted(found) == ["0", "merged"]
    np.testing.assert_array_equal(found["0"].array, np.where(labels[0].array == 9, 9, 0))
    for a, b in itertools.combinations(labels, 2):
        assert a.array is not b.array
    assert set(np.unique(labels[0].array)) == {0, 1, 5, 9}, "the sources are left as they were"


def test_categories_on_different_grids_are_not_merged():
    one = label_of(np.ones((3, 4), np.uint8), {1: "a"})
    other = label_of(np.ones((3, 5), np.uint8), {1: "b"}, name="b")
    with pytest.raises(Exception, match="lie on different grids") as caught:
        list(merged([one, other], ImportOptions(merge=("a", "b"))))
    assert caught.value.code == "merge-grids"


def test_a_volume_called_merged_already_keeps_its_name():
    found = list(
        merged([label_of(np.array([[1, 2]], np.uint8), {1: "a", 2: "z"}, name="merged")], ImportOptions(merge=("a",)))
    )
    assert [v.name for v in found] == ["merged", "merged-2"]


@pytest.mark.parametrize("names", [("a", "a"), ("",)])
def test_names_to_merge_are_checked(names):
    with pytest.raises(OptionError, match="each once"):
        ImportOptions(merge=names)


def test_on_the_command_line(tmp_path):
    write_masks(tmp_path / "raw", boxes(Leber=(0, 8), gtv1=(5, 10)))
    table = tmp_path / "categories.json"
    table.write_text(json.dumps([{"name": "tumor", "names": ["GTV1"]}, {"name": "liver", "names": ["leber"]}]))
    arguments = ["import", str(tmp_path / "raw"), str(tmp_path / "b"), "--categories", str(table), "-j", "0"]
    result = CliRunner().invoke(main, [*arguments, "--merge", "tumor, liver", "--holes", "union"])
    assert result.exit_code == 0, result.output
    import ndvol

    [case] = ndvol.open(tmp_path / "b").values()
    assert case.labels["merged"].categories == {1: "tumor", 2: "liver"}
