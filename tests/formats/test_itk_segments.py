"""Segmentations of 3D Slicer: names, values and layers from the header of a ``.seg.nrrd``."""

import numpy as np
import pytest
import SimpleITK

from ndvol.errors import SourceError
from ndvol.formats.itk_images import ItkReader

READER = ItkReader()
SHAPE = (4, 5, 6)


def write(path, array, segments, spacing=(0.5, 0.75, 2.5), origin=(-10.5, 20, 33)):
    """`array` (z, y, x) or (layer, z, y, x); `segments` are rows of keys. NRRD with the layers along its first axis."""
    layered = array.ndim == 4
    directions = " ".join("(" + ",".join(str(s * (i == k)) for k in range(3)) + ")" for i, s in enumerate(spacing))
    head = {
        "type": "unsigned char",
        "dimension": array.ndim,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, (*(array.shape[:1] if layered else ()), *array.shape[:-4:-1]))),
        "space directions": "none " * layered + directions,
        "kinds": "list " * layered + "domain domain domain",
        "encoding": "raw",
        "space origin": f"({','.join(map(str, origin))})",
    }
    lines = [f"{k}: {v}" for k, v in head.items()]
    lines += [f"Segment{i}_{k}:={v}" for i, row in enumerate(segments) for k, v in row.items()]
    values = np.moveaxis(array, 0, -1) if layered else array
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("NRRD0004\n" + "\n".join(lines) + "\n\n").encode() + values.astype(np.uint8).tobytes())
    return path


def segment(name, value, layer, **more):
    return {"ID": f"Segment_{value}_{layer}", "Name": name, "LabelValue": value, "Layer": layer, **more}


def read(root):
    [series] = READER.scan(root, ["a.seg.nrrd"]).series
    return series, READER.read(root, series, as_label=True)


def test_one_layer(tmp_path):
    truth = np.random.default_rng(0).choice([0, 2, 7], SHAPE)
    write(tmp_path / "a.seg.nrrd", truth, [segment("Left lung", 7, 0, Extent="0 5 0 4 0 3"), segment("Liver", 2, 0)])
    series, volume = read(tmp_path)
    assert (series.modality, series.key, series.name, series.axes) == ("SEG", "a", "a", "zyx")
    np.testing.assert_array_equal(volume.array, truth)
    assert volume.layers == ({7: "Left lung", 2: "Liver"},)
    itk = SimpleITK.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert itk.GetMetaData("Segment1_Name") == "Liver"
    assert volume.grid.world((1, 2, 3)).tolist() == list(itk.TransformIndexToPhysicalPoint((3, 2, 1)))


def test_layers(tmp_path):
    truth = np.random.default_rng(1).choice([0, 1, 2], (3, *SHAPE))
    truth[2][truth[2] == 2] = 0
    rows = [segment("A", 1, 0), segment("B", 2, 0), segment("A", 1, 1), segment("C", 2, 1), segment("D", 1, 2)]
    write(tmp_path / "a.seg.nrrd", truth, rows)
    series, volume = read(tmp_path)
    assert (series.axes, series.shape) == ("czyx", (3, *SHAPE))
    np.testing.assert_array_equal(volume.array, truth)
    assert volume.layers == ({1: "A", 2: "B"}, {1: "A", 2: "C"}, {1: "D"})
    itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "a.seg.nrrd")))
    np.testing.assert_array_equal(np.moveaxis(itk, -1, 0), truth)
    assert READER.read(tmp_path, series).layers == ()


def test_older_files_have_a_layer_per_segment_and_say_neither_layer_nor_value(tmp_path):
    truth = np.random.default_rng(1).integers(0, 2, (2, *SHAPE))
    write(tmp_path / "a.seg.nrrd", truth, [{"ID": "one", "Name": "Liver"}, {"ID": "two", "Name": " "}])
    assert read(tmp_path)[1].layers == ({1: "Liver"}, {1: "two"})
    write(tmp_path / "a.seg.nrrd", truth[0], [{"LabelValue": 1}])
    assert read(tmp_path)[1].layers == ({1: "segment 1"},)


def test_a_segmentation_that_describes_no_segments_is_known_by_its_name(tmp_path):
    write(tmp_path / "a.seg.nrrd", np.ones(SHAPE), [])
    series, volume = read(tmp_path)
    assert (series.modality, volume.layers) == ("SEG", ())
    write(tmp_path / "a.seg.nrrd", np.ones((2, *SHAPE)), [])
    with pytest.raises(SourceError, match="several values per voxel"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("rows", "fact"),
    [
        ([segment("A", 1, 0), segment("B", 1, 0)], "segment 1 with value 1 in layer 0"),
        ([segment("A", 1, 2)], "layers 0 to 1"),
        ([segment("A", 0, 0)], "with value 0"),
        ([segment("A", "one", 0)], "Segment0_LabelValue is no number"),
        ([segment("A", 1, -1)], "Segment0_Layer is no number"),
    ],
)
def test_segments_that_make_no_sense_are_refused(tmp_path, rows, fact):
    write(tmp_path / "a.seg.nrrd", np.zeros((2, *SHAPE)), rows)
    scan = READER.scan(tmp_path, ["a.seg.nrrd"])
    assert [(v.status, v.code) for v in scan.verdicts] == [("refused", "bad-segments")]
    assert fact in scan.verdicts[0].message
