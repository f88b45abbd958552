"""Axes, spacing, units and times of TIFF, as tifffile writes the metadata of ImageJ and OME."""

from itertools import permutations

import numpy as np
import pytest
import tifffile

from ndvol.formats.pictures import PictureReader

READER = PictureReader()
SIZES = {"T": 2, "C": 3, "Z": 4, "Y": 5, "X": 6, "S": 3}


def array_of(axes, dtype="u2"):
    shape = [SIZES[a] for a in axes]
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def canonical(array, axes):
    """In our order; samples of a pixel are channels."""
    letters = axes.replace("S", "C").lower()
    ours = "".join(a for a in "tczyx" if a in letters)
    return ours, np.einsum(f"{letters}->{ours}", array)


class TestOme:
    @pytest.mark.parametrize("axes", ["".join(p) + "YX" for n in range(4) for p in permutations("TCZ", n)])
    def test_axes_in_any_order(self, tmp_path, read_one, axes):
        array = array_of(axes)
        tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata={"axes": axes}, photometric="minisblack")
        volume = read_one(READER, tmp_path)
        ours, truth = canonical(array, axes)
        assert (volume.grid.axes, volume.array.dtype) == (ours, "uint16")
        np.testing.assert_array_equal(volume.array, truth)

    @pytest.mark.parametrize("axes", ["YXS", "ZYXS", "TZYXS"])
    @pytest.mark.parametrize("planar", [False, True])
    def test_samples_of_a_pixel_are_channels(self, tmp_path, read_one, axes, planar):
        axes = axes.replace("YXS", "SYX") if planar else axes
        array = array_of(axes, "u1")
        how = {"planarconfig": "separate"} if planar else {}
        tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata={"axes": axes}, photometric="rgb", **how)
        volume = read_one(READER, tmp_path)
        ours, truth = canonical(array, axes)
        assert volume.grid.axes == ours
        np.testing.assert_array_equal(volume.array, truth)

    def test_channels_and_samples_together_are_refused(self, tmp_path, refusal):
        tifffile.imwrite(tmp_path / "a.ome.tif", array_of("CYXS", "u1"), metadata={"axes": "CYXS"}, photometric="rgb")
        assert refusal(READER, tmp_path)[0] == "axes"

    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
    @pytest.mark.parametrize("order", "<>")
    def test_types(self, tmp_path, read_one, dtype, order):
        array = array_of("ZYX", dtype)
        tifffile.imwrite(tmp_path / "a.ome.tif", array, byteorder=order, photometric="minisblack")
        np.testing.assert_array_equal(read_one(READER, tmp_path).array, array)

    @pytest.mark.parametrize(("unit", "um"), [("µm", 1), ("nm", 1e-3), ("mm", 1e3), ("cm", 1e4), (None, 1)])
    def test_units_of_length(self, tmp_path, read_one, unit, um):
        sizes = {f"PhysicalSize{a}": v for a, v in (("X", 0.5), ("Y", 0.25), ("Z", 2.0))}
        units = {f"{name}Unit": unit for name in sizes} if unit else {}
        metadata = {"axes": "ZYX", **sizes, **units}
        tifffile.imwrite(tmp_path / "a.ome.tif", array_of("ZYX"), metadata=metadata, photometric="minisblack")
        grid = read_one(READER, tmp_path).grid
        np.testing.assert_allclose(grid.spacing, np.array([2.0, 0.25, 0.5]) * um)
        assert (grid.unit, grid.frame) == ("um", "LOCAL")

    @pytest.mark.parametrize("change", [{"PhysicalSizeZUnit": "pixel"}, {"PhysicalSizeZ": 0}, {"PhysicalSizeZ": "NaN"}])
    def test_lengths_that_are_none_are_unknown(self, tmp_path, read_one, change):
        metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1, **change}
        tifffile.imwrite(tmp_path / "a.ome.tif", array_of("ZYX"), metadata=metadata, photometric="minisblack")
        assert read_one(READER, tmp_path).grid.unit == "unknown"

    @pytest.mark.parametrize(("unit", "seconds"), [("s", 1.5), ("ms", 0.0015), ("min", 90), (None, 1.5), ("d", None)])
    def test_times(self, tmp_path, read_one, unit, seconds):
        metadata = {"axes": "TYX", "TimeIncrement": 1.5} | ({"TimeIncrementUnit": unit} if unit else {})
        tifffile.imwrite(tmp_path / "a.ome.tif", array_of("TYX"), metadata=metadata, photometric="minisblack")
        assert read_one(READER, tmp_path).attributes.get("t_spacing_s") == seconds

    def test_the_finest_level_of_a_pyramid_is_read(self, tmp_path, read_one):
        array = np.arange(2 * 64 * 96, dtype=np.uint16).reshape(2, 64, 96)
        with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
            file.write(array, subifds=1, metadata={"axes": "ZYX"}, photometric="minisblack")
            file.write(array[:, ::2, ::2], subfiletype=1, photometric="minisblack")
        np.testing.assert_array_equal(read_one(READER, tmp_path).array, array)

    def test_several_images_are_refused(self, tmp_path, refusal):
        with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
            for size in (5, 6):
                file.write(np.zeros((3, size, 7), np.uint8), photometric="minisblack")
        assert refusal(READER, tmp_path)[0] == "mixed-pages"


class TestImageJ:
    @pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX", "TYX", "ZCYX", "TZYX", "TCYX", "TZCYX", "YXS", "ZYXS"])
    def test_axes(self, tmp_path, read_one, axes):
        array = array_of(axes, "u1")
        tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": axes})
        volume = read_one(READER, tmp_path)
        ours, truth = canonical(array, axes)
        assert volume.grid.axes == ours
        np.testing.assert_array_equal(volume.array, truth)

    @pytest.mark.parametrize(
        ("unit", "um"), [("um", 1), ("micron", 1), ("\\u00B5m", 1), ("nm", 1e-3), ("mm", 1e3), ("cm", 1e4)]
    )
    def test_units_of_length(self, tmp_path, read_one, unit, um):
        options = {"imagej": True, "resolution": (2, 4), "metadata": {"axes": "ZYX", "unit": unit, "spacing": 3.5}}
        tifffile.imwrite(tmp_path / "a.tif", array_of("ZYX"), **options)
        grid = read_one(READER, tmp_path).grid
        np.testing.assert_allclose(grid.spacing, np.array([3.5, 0.25, 0.5]) * um)
        assert grid.unit == "um"

    @pytest.mark.parametrize(
        "metadata", [{"unit": "pixel"}, {"unit": "inch"}, {}, {"spacing": -1.0}, {"spacing": 0.0}], ids=str
    )
    def test_lengths_that_are_none_are_unknown(self, tmp_path, read_one, metadata):
        metadata = {"axes": "ZYX", "unit": "um", "spacing": 3.5} | (metadata or {"unit": ""})
        tifffile.imwrite(tmp_path / "a.tif", array_of("ZYX"), imagej=True, resolution=(2, 4), metadata=metadata)
        assert read_one(READER, tmp_path).grid.unit == "unknown"

    @pytest.mark.parametrize(("axes", "seconds"), [("TYX", 0.125), ("ZYX", None)])
    def test_times(self, tmp_path, read_one, axes, seconds):
        tifffile.imwrite(
            tmp_path / "a.tif", array_of(axes), imagej=True, metadata={"axes": axes, "finterval": 0.125, "fps": 8.0}
        )
        assert read_one(READER, tmp_path).attributes.get("t_spacing_s") == seconds


class TestPlain:
    def test_pages_without_names_are_planes(self, tmp_path, read_one):
        tifffile.imwrite(tmp_path / "a.tif", array_of("ZYX"), metadata=None, photometric="minisblack")
        volume = read_one(READER, tmp_path)
        assert (volume.grid.axes, volume.grid.unit) == ("zyx", "unknown")
        np.testing.assert_array_equal(volume.array, array_of("ZYX"))

    def test_resolution_of_a_print_is_no_spacing(self, tmp_path, read_one):
        array = array_of("YX")
        tifffile.imwrite(tmp_path / "a.tif", array, resolution=(300, 300), resolutionunit="inch", metadata=None)
        assert read_one(READER, tmp_path).grid.unit == "unknown"

    def test_more_axes_without_names_are_refused(self, tmp_path, refusal):
        tifffile.imwrite(tmp_path / "a.tif", array_of("TZYX"), photometric="minisblack")
        assert refusal(READER, tmp_path)[0] == "axes"
