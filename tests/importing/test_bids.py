"""BIDS: subjects and sessions as cases, derivatives as labels, sidecars that are nobody's images."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ndvol.errors import SourceError
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid
from ndvol.importing import ImportOptions, import_tree, plan_import
from ndvol.importing.bids import bids_name, lookup_of, read_lookup

GRID = Grid.regular("zyx", (6, 8, 10), spacing=(2, 1, 1), origin=(-5, 4, 20))
OTHER = Grid.regular("zyx", (4, 5, 6), spacing=(3, 2, 2), origin=(-5, 4, 20))


def voxels(grid=GRID, seed=0, times=()):
    return np.random.default_rng(seed).integers(0, 999, (*times, *grid.shape)).astype(np.int16)


def labels(values, grid=GRID, seed=0):
    return np.random.default_rng(seed).choice(values, grid.shape).astype(np.uint8)


def nifti(path, array, grid=GRID):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_nifti(path, array, grid)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dataset(root):
    """Two subjects, the second in two sessions; images on different grids, labels of several kinds."""
    write(root / "dataset_description.json", '{"Name": "toy", "BIDSVersion": "1.10.0"}')
    write(root / "participants.tsv", "participant_id\tage\nsub-01\t40\n")
    write(root / "T1w.json", "{}")
    one = root / "sub-01" / "anat"
    nifti(one / "sub-01_T1w.nii.gz", voxels(seed=1))
    nifti(one / "sub-01_acq-fast_run-2_FLAIR.nii.gz", voxels(OTHER, seed=2), OTHER)
    write(one / "sub-01_T1w.json", '{"EchoTime": 0.01}')
    nifti(root / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz", voxels(OTHER, 3, (3,)), OTHER)
    write(root / "sub-01" / "func" / "sub-01_task-rest_events.tsv", "onset\tduration\n")
    nifti(root / "sub-01" / "dwi" / "sub-01_dwi.nii.gz", voxels(OTHER, 4, (2,)), OTHER)
    write(root / "sub-01" / "dwi" / "sub-01_dwi.bval", "0 1000\n")
    write(root / "sub-01" / "dwi" / "sub-01_dwi.bvec", "0 1\n0 0\n0 0\n")
    for session in ("a", "b"):
        stem = f"sub-02/ses-{session}/anat/sub-02_ses-{session}"
        nifti(root / f"{stem}_T1w.nii", voxels(seed=ord(session)))
    made = root / "derivatives" / "tool"
    nifti(made / "sub-01" / "anat" / "sub-01_dseg.nii.gz", labels([0, 3, 7]))
    write(made / "dseg.tsv", "index\tname\tcolor\n0\tbackground\t#000\n3\tleft caudate\t#f00\n7\tthalamus\t#0f0\n")
    nifti(made / "sub-01" / "anat" / "sub-01_acq-fast_run-2_label-lesion_mask.nii.gz", labels([0, 1], OTHER), OTHER)
    nifti(made / "deep" / "sub-02_ses-b_desc-brain_mask.nii.gz", labels([0, 1], seed=5))
    return root


def test_subjects_and_sessions_are_cases(tmp_path):
    dataset(tmp_path / "raw")
    for status in ("imported", "unchanged"):
        catalog = import_tree(tmp_path / "raw", tmp_path / "b")
        assert {v.status for v in catalog.verdicts if v.case} == {status}
    assert list(catalog) == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]
    case = catalog["sub-01"]
    assert sorted(case.images) == ["T1w", "acq-fast_run-2_FLAIR", "dwi", "task-rest_bold"]
    np.testing.assert_array_equal(case.images["T1w"], voxels(seed=1))
    np.testing.assert_array_equal(case.images["acq-fast_run-2_FLAIR"], voxels(OTHER, 2))
    np.testing.assert_array_equal(case.images["task-rest_bold"], voxels(OTHER, 3, (3,)))
    assert case.images["dwi"].axes == "tzyx"
    assert sorted(case.labels) == ["acq-fast_run-2_label-lesion_mask", "dseg"]
    np.testing.assert_array_equal(case.labels["dseg"], labels([0, 3, 7]))
    assert case.labels["dseg"].categories == {3: "left caudate", 7: "thalamus"}
    lesion = case.labels["acq-fast_run-2_label-lesion_mask"]
    assert lesion.categories == {1: "lesion"}
    assert lesion.grid.matches(case.images["acq-fast_run-2_FLAIR"].grid)
    for session, found in (("a", []), ("b", ["desc-brain_mask"])):
        case = catalog[f"sub-02_ses-{session}"]
        assert (list(case.images), list(case.labels)) == (["T1w"], found)
        np.testing.assert_array_equal(case.images["T1w"], voxels(seed=ord(session)))


def test_sidecars_are_no_unknown_format(tmp_path):
    dataset(tmp_path / "raw")
    write(tmp_path / "raw" / "README", "hello")
    verdicts = {v.source: v for v in plan_import(tmp_path / "raw").verdicts}
    assert {v.status for v in verdicts.values()} == {"skipped"}
    by_code = {}
    for source, verdict in verdicts.items():
        by_code.setdefault(verdict.code, set()).add(source)
    assert by_code == {
        "unknown-format": {"README"},
        "bids-lookup": {"derivatives/tool/dseg.tsv"},
        "bids-sidecar": {
            "T1w.json",
            "dataset_description.json",
            "participants.tsv",
            "sub-01/anat/sub-01_T1w.json",
            "sub-01/dwi/sub-01_dwi.bval",
            "sub-01/dwi/sub-01_dwi.bvec",
            "sub-01/func/sub-01_task-rest_events.tsv",
        },
    }


def test_json_elsewhere_is_unknown_as_ever(tmp_path):
    dataset(tmp_path / "raw" / "bids")
    write(tmp_path / "raw" / "notes.json", "{}")
    assert {v.source for v in plan_import(tmp_path / "raw").verdicts if v.code == "unknown-format"} == {"notes.json"}


def test_derived_images_say_what_derived_them(tmp_path):
    """They belong to the subject, so that a segmentation of theirs finds the grid it lies on."""
    dataset(tmp_path / "raw")
    prep = tmp_path / "raw" / "derivatives" / "fmriprep" / "sub-01" / "anat"
    grid = Grid.regular("zyx", (3, 4, 5), spacing=(4, 2, 2))
    nifti(prep / "sub-01_desc-preproc_T1w.nii.gz", voxels(grid), grid)
    nifti(prep / "sub-01_space-T1w_dseg.nii.gz", labels([0, 3], grid), grid)
    case = import_tree(tmp_path / "raw", tmp_path / "b")["sub-01"]
    assert case.labels["space-T1w_dseg"].grid.matches(case.images["fmriprep_desc-preproc_T1w"].grid)


def test_a_label_in_another_space_is_refused_alone(tmp_path):
    dataset(tmp_path / "raw")
    far = Grid.regular("zyx", (5, 5, 5), spacing=(1.1, 1, 1), origin=(90, 90, 90))
    nifti(tmp_path / "raw" / "derivatives" / "sub-01_space-MNI_dseg.nii.gz", labels([0, 3], far), far)
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    [verdict] = [v for v in catalog.verdicts if v.status == "refused"]
    assert (verdict.code, verdict.case) == ("label-off-grid", "sub-01")
    assert "expected zyx (6, 8, 10), " in verdict.message
    assert " or zyx (4, 5, 6), " in verdict.message, "the grids of all images are named"
    assert "dseg" in catalog["sub-01"].labels


def test_labels_of_a_subject_go_to_its_only_session(tmp_path):
    for subject, sessions in (("01", ["x"]), ("02", ["x", "y"]), ("03", ["x"])):
        for session in sessions:
            stem = f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}"
            nifti(tmp_path / "raw" / f"{stem}_T1w.nii.gz", voxels())
    for subject in ("01", "02", "04"):
        nifti(tmp_path / "raw" / "derivatives" / f"sub-{subject}_dseg.nii.gz", labels([0, 1]))
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert {n for n, case in catalog.items() if case.labels} == {"sub-01_ses-x"}
    codes = {v.source[-18:-7]: v.code for v in catalog.verdicts if v.status == "refused"}
    assert codes == {"sub-02_dseg": "many-images-for-label", "sub-04_dseg": "no-image-for-label"}


def test_a_label_of_another_subject_is_not_paired_with_the_only_one(tmp_path):
    nifti(tmp_path / "raw" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", voxels())
    nifti(tmp_path / "raw" / "derivatives" / "sub-02_dseg.nii.gz", labels([0, 1]))
    plan = plan_import(tmp_path / "raw")
    assert [v.code for v in plan.verdicts] == ["no-image-for-label"]
    assert plan.cases[0].labels == ()


def test_equal_labels_of_two_pipelines_are_both_kept(tmp_path):
    dataset(tmp_path / "raw")
    other = tmp_path / "raw" / "derivatives" / "zzz" / "sub-01" / "anat" / "sub-01_dseg.nii.gz"
    nifti(other, labels([0, 1], seed=8))
    case = import_tree(tmp_path / "raw", tmp_path / "b")["sub-01"]
    np.testing.assert_array_equal(case.labels["dseg"], labels([0, 3, 7]))
    np.testing.assert_array_equal(case.labels["dseg-2"], labels([0, 1], seed=8))
    assert case.labels["dseg-2"].categories == {1: "dseg-2"}, "the table of the other pipeline is not for it"


def test_a_changed_table_is_noticed(tmp_path):
    dataset(tmp_path / "raw")
    import_tree(tmp_path / "raw", tmp_path / "b")
    write(tmp_path / "raw" / "derivatives" / "tool" / "dseg.tsv", "index\tname\n3\tputamen\n7\tthalamus\n")
    case = import_tree(tmp_path / "raw", tmp_path / "b")["sub-01"]
    assert case.labels["dseg"].categories == {3: "putamen", 7: "thalamus"}


def test_the_users_table_knows_the_names_of_the_data_set(tmp_path):
    """As those of segments that other files name: by name, never by value."""
    dataset(tmp_path / "raw")
    table = (
        {"name": "deep grey", "names": ["Left Caudate", "thalamus"], "value": 99},
        {"name": "WMH", "names": ["lesion"]},
    )
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(categories=table))
    case = catalog["sub-01"]
    assert case.labels["dseg"].categories == {3: "deep grey", 7: "deep grey"}
    assert case.labels["dseg"].attributes["source_names"] == {"3": ["left caudate"], "7": ["thalamus"]}
    assert case.labels["acq-fast_run-2_label-lesion_mask"].categories == {1: "WMH"}


def test_a_mask_of_two_values_is_refused(tmp_path):
    dataset(tmp_path / "raw")
    mask = tmp_path / "raw" / "derivatives" / "tool" / "deep" / "sub-02_ses-b_desc-brain_mask.nii.gz"
    nifti(mask, labels([0, 1, 2]))
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert [v.code for v in catalog.verdicts if v.status == "refused"] == ["not-a-mask"]
    nifti(mask, labels([0, 255]))
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert catalog["sub-02_ses-b"].labels["desc-brain_mask"].categories == {255: "desc-brain_mask"}


def test_a_table_that_is_none_is_refused_and_names_nothing(tmp_path):
    dataset(tmp_path / "raw")
    write(tmp_path / "raw" / "derivatives" / "tool" / "dseg.tsv", "index\tname\nthree\tcaudate\n")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    [verdict] = [v for v in catalog.verdicts if v.status == "refused"]
    assert (verdict.source, verdict.code) == ("derivatives/tool/dseg.tsv", "bids-lookup")
    assert catalog["sub-01"].labels["dseg"].categories == {3: "dseg-3", 7: "dseg-7"}


def test_values_that_the_table_lacks_cost_the_label(tmp_path):
    dataset(tmp_path / "raw")
    write(tmp_path / "raw" / "derivatives" / "tool" / "dseg.tsv", "index\tname\n3\tcaudate\n")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b")
    assert [v.code for v in catalog.verdicts if v.status == "refused"] == ["unnamed-values"]
    assert "dseg" not in catalog["sub-01"].labels


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name\nliver\n",
        "index\tname\n1\n",
        "index\tname\n-1\tliver\n",
        "index\tname\n1\tliver\n1\tspleen\n",
        "index\tname\n1\t \n",
        "index\tname\n1.5\tliver\n",
        "\xff",
        "index\tname\n1\t" + "x" * 200_000,
        "a" * (2**24 + 1),
    ],
    ids=map(str, range(10)),
)
def test_tables_that_make_no_sense(tmp_path, text):
    (tmp_path / "dseg.tsv").write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError, match=r"dseg\.tsv is no table of label values") as caught:
        read_lookup(tmp_path, "dseg.tsv")
    assert caught.value.code == "bids-lookup"


def test_quotes_and_a_byte_order_mark_are_read_as_text(tmp_path):
    (tmp_path / "dseg.tsv").write_text('index\tname\tabbreviation\n1\tleft "V1"\tV1\n1\tleft "V1"\t\n', "utf-8-sig")
    assert read_lookup(tmp_path, "dseg.tsv") == {1: 'left "V1"'}


def test_the_nearest_table_of_the_labels_own_entities_counts():
    lookups = {
        "dseg.tsv": frozenset(),
        "d/desc-a_dseg.tsv": frozenset({"desc-a"}),
        "d/dseg.tsv": frozenset(),
        "d/sub-1/desc-b_dseg.tsv": frozenset({"desc-b"}),
        "e/desc-a_dseg.tsv": frozenset({"desc-a"}),
    }

    def found(entities, folder="d/sub-1/anat"):
        stem = "_".join(("sub-1", *entities, "dseg"))
        return lookup_of(f"{folder}/{stem}.nii.gz", stem, lookups)

    assert found(["desc-a"]) == "d/desc-a_dseg.tsv"
    assert found(["desc-b"]) == "d/sub-1/desc-b_dseg.tsv"
    assert found(["desc-c"]) == "d/dseg.tsv"
    assert found(["desc-a"], "f") == "dseg.tsv"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sub-01/anat/sub-01_T1w.nii.gz", ("", "sub-01", "T1w", "")),
        ("x/y/sub-01/ses-2/pet/sub-01_ses-2_trc-FDG_pet.nii", ("x/y", "sub-01_ses-2", "trc-FDG_pet", "")),
        ("sub-01/anat/sub-01_label-L_desc-T1lesion_mask.nii", ("", "sub-01", "label-L_desc-T1lesion_mask", "")),
        ("derivatives/p/sub-01/anat/sub-01_desc-x_T1w.nii", ("", "sub-01", "p_desc-x_T1w", "p")),
        ("derivatives/sub-01/anat/sub-01_desc-x_T1w.nii", ("", "sub-01", "desc-x_T1w", "")),
        ("d/derivatives/any/where/sub-01_dseg.nii.gz", ("d", "sub-01", "dseg", "any")),
        # Not where BIDS has them, or not called so.
        ("sub-02/anat/sub-01_T1w.nii.gz", None),
        ("sub-01/anat/sub-01_ses-2_T1w.nii.gz", None),
        ("sub-01/ses-2/anat/sub-01_T1w.nii.gz", None),
        ("sub-01/sub-01_T1w.nii.gz", None),
        ("sub-01/other/sub-01_T1w.nii.gz", None),
        ("sub-01_T1w.nii.gz", None),
        ("any/where/sub-01_dseg.nii.gz", None),
        ("derivatives/p/sub-01_T1w.nii.gz", None),
        ("sub-01/anat/sub-01_my scan.nii.gz", None),
        ("sub-01/anat/sub-01_T1w.mgz", None),
    ],
)
def test_names(path, expected):
    stem = path.rpartition("/")[2].partition(".")[0]
    name = bids_name(path, stem)
    assert (name and (name.dataset, name.case, name.name, name.pipeline)) == expected


def test_folders_of_images_and_labels_that_look_like_bids_pair_as_ever(tmp_path):
    for folder, array in (("images", voxels()), ("labels", labels([0, 1]))):
        nifti(tmp_path / "raw" / folder / "sub-01" / "anat" / "sub-01_T1w.nii.gz", array)
    [case] = plan_import(tmp_path / "raw").cases
    assert ([v.name for v in case.images], [p.name for p in case.labels]) == (["image"], ["labels"])
    options = ImportOptions(labels=str(tmp_path / "raw" / "labels"))
    nifti(tmp_path / "raw" / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", voxels())
    [case] = plan_import(tmp_path / "raw" / "bids", options).cases
    assert ([v.name for v in case.images], [p.name for p in case.labels]) == (["T1w"], ["labels"])


def test_a_folder_of_derivatives_given_as_labels(tmp_path):
    dataset(tmp_path / "raw")
    (tmp_path / "raw" / "derivatives").rename(tmp_path / "derivatives")
    (tmp_path / "out").mkdir()
    (tmp_path / "derivatives").rename(tmp_path / "out" / "derivatives")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(labels=str(tmp_path / "out")))
    assert sorted(catalog["sub-01"].labels) == ["acq-fast_run-2_label-lesion_mask", "dseg"]
    assert catalog["sub-01"].labels["dseg"].categories == {3: "left caudate", 7: "thalamus"}
    assert list(catalog["sub-02_ses-b"].labels) == ["desc-brain_mask"]
    assert {v.code for v in catalog.verdicts if v.source == "(labels) derivatives/tool/dseg.tsv"} == {"bids-lookup"}


def test_labels_of_the_layout_are_named_when_others_are_given(tmp_path):
    dataset(tmp_path / "raw")
    nifti(tmp_path / "mine" / "sub-01" / "anat" / "sub-01_label-x_mask.nii.gz", labels([0, 1]))
    plan = plan_import(tmp_path / "raw", ImportOptions(labels=str(tmp_path / "mine")))
    assert [v.code for v in plan.verdicts].count("other-labels") == 3
    assert [[p.name for p in case.labels] for case in plan.cases] == [["label-x_mask"], [], []]


def test_strict_names_nothing_of_a_data_set(tmp_path):
    dataset(tmp_path / "raw")
    catalog = import_tree(tmp_path / "raw", tmp_path / "b", options=ImportOptions(phi="strict"))
    said = json.dumps([v.to_json() for v in catalog.verdicts]) + (tmp_path / "b" / "data.kwcoco.json").read_text()
    for word in ("sub-01", "sub-02", "ses-a", "lesion", "caudate", "acq-fast", "rest", "brain"):
        assert word not in said
    images = sorted(name for case in catalog.values() for name in case.images)
    assert [n for n in images if not n.startswith("channel-")] == ["T1w", "T1w", "T1w", "dwi"]
    names = sorted(name for case in catalog.values() for name in case.labels)
    assert names[0] == "dseg"
    assert all(name.startswith("labels-") for name in names[1:])
    assert len(names) == 3


@pytest.mark.parametrize(("rule", "cases"), [("series", 6), ("folder", 5), ("study", 3)])
def test_other_rules_for_cases(tmp_path, rule, cases):
    dataset(tmp_path / "raw")
    plan = plan_import(tmp_path / "raw", ImportOptions(case_by=rule))
    assert len(plan.cases) == cases
    names = {volume.name for case in plan.cases for volume in case.images}
    assert names == {"T1w", "acq-fast_run-2_FLAIR", "dwi", "task-rest_bold"}
