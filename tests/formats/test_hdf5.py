"""HDF5 files of others, written with plain h5py."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import SimpleITK

from ndvol.errors import SourceError
from ndvol.formats import ReadOptions
from ndvol.formats.hdf5_files import Hdf5Reader
from ndvol.importing import import_tree
from ndvol.store import CaseWriter

READER = Hdf5Reader()
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 4000, (5, 6, 7)).astype(np.uint16)


pytestmark = pytest.mark.usefixtures("hdf5_in_this_process")


@pytest.fixture
def file(tmp_path):
    """One open file to write; reading it closes it."""
    handle = h5py.File(tmp_path / "a.h5", "w")
    yield handle
    handle.close()


@pytest.fixture
def read(tmp_path, file, scan):
    def run(options=ReadOptions(), **kwargs):  # noqa: B008
        file.close()
        found = scan(READER, tmp_path, options)
        assert len(found.series) == 1, found.verdicts
        return READER.read(tmp_path, found.series[0], **kwargs)

    return run


@pytest.fixture
def refused(tmp_path, file, scan):
    def run(options=ReadOptions()):  # noqa: B008
        file.close()
        found = scan(READER, tmp_path, options)
        assert not found.series
        [verdict] = found.verdicts
        assert str(tmp_path) not in verdict.message
        return verdict.code, verdict.message

    return run


class TestGeneric:
    @pytest.mark.parametrize(("ndim", "axes"), [(2, "yx"), (3, "zyx"), (4, "tzyx")])
    @pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "<u4", "i8", "f2", "f4", ">f8", "b1"])
    def test_the_only_data_set_keeps_its_values(self, file, read, ndim, axes, dtype):
        array = NOISE[None, ...].repeat(2, axis=0)[(0,) * (4 - ndim)].astype(dtype)
        file.create_dataset("deep/down/x", data=array, compression="gzip")
        file["scalar"], file["table"], file["name"] = 3, np.arange(9), "text"
        volume = read()
        np.testing.assert_array_equal(volume.array, array)
        assert volume.array.dtype == {"f2": "f4", "b1": "u1", ">f8": "f4"}.get(dtype, np.dtype(dtype).newbyteorder("="))
        assert (volume.grid.axes, volume.grid.frame, volume.grid.unit) == (axes, "LOCAL", "unknown")
        assert volume.warnings[0] == f"the axes have no names; taken as {', '.join(axes)}"
        assert "spacing, position and orientation unknown" in volume.warnings[1]

    def test_several_are_refused_by_path_and_shape_and_one_can_be_named(self, file, refused, tmp_path, scan):
        file["raw"], file["g/label"] = NOISE, NOISE.astype("u1")
        code, message = refused()
        assert code == "several-datasets"
        assert "/g/label (5, 6, 7) uint8, /raw (5, 6, 7) uint16" in message
        assert "--dataset" in message
        for path in ("raw", "/raw", "g/label"):
            [series] = scan(READER, tmp_path, ReadOptions(dataset=path)).series
            volume = READER.read(tmp_path, series)
            np.testing.assert_array_equal(volume.array, NOISE if "raw" in path else NOISE.astype("u1"))

    @pytest.mark.parametrize(
        ("path", "code"), [("g", "unknown-name"), ("nothing", "unknown-name"), ("raw/x", "unknown-name")]
    )
    def test_a_named_data_set_must_be_there(self, file, refused, path, code):
        file["raw"] = NOISE
        file.create_group("g")
        assert refused(ReadOptions(dataset=path))[0] == code

    def test_a_file_without_a_volume_is_refused(self, file, refused):
        file["weights"], file["one"], file["row"] = np.arange(9.0), np.ones((1, 1)), np.ones((1, 9))
        file["complex"], file["text"] = np.ones((3, 3), complex), np.array([[b"a", b"b"], [b"c", b"d"]])
        assert refused()[0] == "no-volume"

    def test_complex_values_are_refused_by_name(self, file, refused):
        file["x"] = np.ones((4, 5, 6), np.complex64)
        code, message = refused(ReadOptions(dataset="x"))
        assert (code, "magnitude" in message) == ("voxel-type", True)

    @pytest.mark.parametrize("shape", [(2,), (2, 2, 2, 2, 2), (0, 4)])
    def test_unnamed_axes_must_be_two_to_four(self, file, refused, shape):
        file["x"] = np.zeros(shape)
        assert refused(ReadOptions(dataset="x"))[0] in ("axes", "shape")

    def test_labels(self, file, read, tmp_path, scan):
        file["x"] = np.array([[0, 1.0004], [300, 2]])
        volume = read(as_label=True)
        assert (volume.array.dtype, volume.array.ravel().tolist()) == ("uint16", [0, 1, 300, 2])

    def test_labels_have_one_value_per_voxel(self, file, read):
        file["x"] = NOISE
        file["x"].attrs["axes"] = "cyx"
        with pytest.raises(SourceError, match="several values per voxel"):
            read(as_label=True)

    def test_chunks_that_were_never_written_are_told(self, file, read):
        data = file.create_dataset("x", (4, 6, 8), "i2", chunks=(2, 3, 4), fillvalue=-7)
        data[:2] = 1
        volume = read()
        assert (volume.array[0, 0, 0], volume.array[3, 5, 7]) == (1, -7)
        assert "4 chunks of /x were never written and hold its fill value" in volume.warnings

    @pytest.mark.parametrize("chunks", [None, (2, 3, 4)])
    def test_nothing_written_is_refused(self, file, read, chunks):
        file.create_dataset("x", (4, 6, 8), "i2", chunks=chunks)
        file["y"] = "keeps the file from being tiny " * 10
        with pytest.raises(SourceError, match="no value of /x was ever written"):
            read()

    def test_packed_values_are_refused(self, file, refused):
        file["x"] = NOISE
        file["x"].attrs["add_offset"] = 0.0
        file["x"].attrs["scale_factor"] = np.array([0.1])
        assert refused()[0] == "rescale"

    def test_neutral_factors_pass(self, file, read):
        file["x"] = NOISE
        file["x"].attrs.update({"add_offset": 0.0, "scale_factor": np.array([1.0])})
        np.testing.assert_array_equal(read().array, NOISE)


class TestAxes:
    """Every convention, on an array whose axes can all be told apart."""

    def write(self, file, how, letters):
        sizes = {"t": 2, "c": 3, "z": 4, "y": 5, "x": 6}
        array = RNG.integers(0, 99, [sizes[a] for a in letters]).astype("u1")
        data = file.create_dataset("data", data=array)
        if how == "labels":
            for dim, name in zip(data.dims, letters, strict=True):
                dim.label = name
        elif how == "scales":
            for k, name in enumerate(letters):
                scale = file.create_dataset({"t": "time", "c": "channel"}.get(name, name), data=np.arange(sizes[name]))
                scale.make_scale(name)
                data.dims[k].attach_scale(scale)
        elif how == "axistags":
            tags = ", ".join(f'{{"key": "{a}", "typeFlags": 2, "resolution": 0}}' for a in letters)
            data.attrs["axistags"] = f'{{"axes": [{tags}]}}'
        elif how == "words":
            data.attrs["axes"] = ", ".join({"t": "Time", "c": "Channel"}.get(a, a.upper()) for a in letters)
        else:
            data.attrs["axes"] = list(letters) if how == "list" else letters
        return array

    @pytest.mark.parametrize("how", ["labels", "scales", "axistags", "words", "list", "string"])
    @pytest.mark.parametrize("letters", ["zyx", "xyz", "yxc", "tzyxc", "cxty", "yx"])
    def test_named_axes_come_in_canonical_order(self, file, read, how, letters):
        array = self.write(file, how, letters)
        volume = read()
        axes = "".join(a for a in "tczyx" if a in letters)
        assert volume.grid.axes == axes
        np.testing.assert_array_equal(volume.array, np.einsum(f"{letters}->{axes}", array))
        assert not any("no names" in w for w in volume.warnings)

    def test_times_and_channels_of_one_are_dropped(self, file, read):
        file["x"] = NOISE.transpose(2, 1, 0)[None, :, :, :, None]
        file["x"].attrs.update(axes="cxyzt", element_size_um=[1, 1, 1])
        volume = read(as_label=True)
        assert volume.grid.axes == "zyx"
        np.testing.assert_array_equal(volume.array, NOISE)

    @pytest.mark.parametrize("how", ["labels", "axistags", "list"])
    @pytest.mark.parametrize("names", [["z", "y", "coil"], ["z", "y", "y"], ["t", "z", "y"], ["y", "x"]])
    def test_names_that_are_no_axes_of_ours_are_refused(self, file, refused, how, names):
        data = file.create_dataset("x", data=NOISE)
        if how == "labels":
            for dim, name in zip(data.dims, names, strict=False):
                dim.label = name
        elif how == "axistags":
            data.attrs["axistags"] = '{"axes": [' + ", ".join(f'{{"key": "{n}"}}' for n in names) + "]}"
        else:
            data.attrs["axes"] = names
        assert refused()[0] == "axes"

    def test_names_that_say_nothing_count_as_none(self, file, read):
        data = file.create_dataset("x", data=NOISE)
        for k, dim in enumerate(data.dims):
            dim.label = f"phony_dim_{k}"
        data.attrs["axistags"] = "{not json"
        assert read().grid.axes == "zyx"

    @pytest.mark.parametrize(("mode", "shape"), [("PIXEL", (4, 5, 3)), ("PLANE", (3, 4, 5))])
    def test_an_hdf5_image_has_its_colours_on_c(self, file, read, mode, shape):
        array = RNG.integers(0, 255, shape).astype("u1")
        file["x"] = array
        file["x"].attrs.update(
            CLASS=np.bytes_("IMAGE"),
            IMAGE_SUBCLASS=np.bytes_("IMAGE_TRUECOLOR"),
            INTERLACE_MODE=np.bytes_(f"INTERLACE_{mode}"),
        )
        file["colours"] = np.zeros((256, 3), "u1")
        file["colours"].attrs["CLASS"] = np.bytes_("PALETTE")
        volume = read()
        assert volume.grid.axes == "cyx"
        np.testing.assert_array_equal(volume.array, np.moveaxis(array, -1, 0) if mode == "PIXEL" else array)


class TestSpacing:
    def test_element_size_um(self, file, read):
        file["x"] = NOISE
        file["x"].attrs["element_size_um"] = np.array([2.5, 0.5, 0.25], np.float32)
        grid = read().grid
        np.testing.assert_allclose(grid.spacing, [0.0025, 0.0005, 0.00025])
        assert (grid.unit, grid.frame) == ("mm", "LOCAL")

    def test_other_axes_do_not_count(self, file, read):
        file["x"] = NOISE[None, :, :]
        file["x"].attrs.update(axes="czyx", element_size_um=[2.0, 1.0, 0.5])
        np.testing.assert_allclose(read().grid.spacing, [0.002, 0.001, 0.0005])

    @pytest.mark.parametrize(
        ("sizes", "axes"),
        [([1.0, 2.0], "zyx"), ([0, 1, 1], "zyx"), ([np.nan] * 3, "zyx"), ("text", "zyx"), ([1.0, 2, 3], "xyz")],
    )
    def test_sizes_that_do_not_fit_are_told(self, file, read, sizes, axes):
        file["x"] = NOISE
        file["x"].attrs.update(element_size_um=sizes, axes=axes)
        volume = read()
        assert volume.grid.unit == "unknown"
        assert "element_size_um does not fit" in volume.warnings[0]


HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>12</x><y>6</y><z>{0}</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>6</x><y>7</y><z>{0}</z></matrixSize>
<fieldOfView_mm><x>12</x><y>28</y><z>{1}</z></fieldOfView_mm></reconSpace></encoding></ismrmrdHeader>"""


class TestFastMri:
    def test_two_dimensional_slices_have_no_known_distance(self, file, read, tmp_path, scan):
        file["kspace"] = np.zeros((5, 2, 12, 7), np.complex64)
        file["reconstruction_rss"] = NOISE.astype("f4")
        file["mask"] = np.ones(7, "f4")
        file["ismrmrd_header"] = HEADER.format(1, 3.5)
        volume = read()
        np.testing.assert_array_equal(volume.array, NOISE)
        assert (volume.modality, volume.grid.axes, volume.grid.unit) == ("MR", "zyx", "unknown")
        # Rows run along the readout, x of the header.
        assert volume.attributes == {"PixelSpacing": "[2.0, 4.0]", "SliceThickness": 3.5}
        assert "distance of the slices is not stated" in volume.warnings[0]

    def test_three_dimensional_encoding_gives_the_spacing(self, file, read):
        file["reconstruction_rss"] = NOISE.astype("f4")
        file["ismrmrd_header"] = HEADER.format(5, 15)
        assert read().grid.spacing == (3.0, 2.0, 4.0)

    def test_two_reconstructions_are_two_images_of_one_case(self, file, tmp_path, scan):
        file["reconstruction_rss"], file["reconstruction_esc"] = NOISE.astype("f4"), NOISE.astype("f4") + 1
        file.close()
        found = scan(READER, tmp_path)
        assert [(s.source, s.key, s.name, s.volume) for s in found.series] == [
            (f"a.h5#reconstruction_{n}", "a", "a", f"reconstruction_{n}") for n in ("rss", "esc")
        ]
        for k, series in enumerate(found.series):
            np.testing.assert_array_equal(READER.read(tmp_path, series).array, NOISE + k)
        [(name, case)] = import_tree(tmp_path, tmp_path / "bundle").items()
        assert (name, list(case.images)) == ("a", ["reconstruction_esc", "reconstruction_rss"])
        np.testing.assert_array_equal(case.images["reconstruction_esc"], NOISE + 1)

    def test_k_space_alone_is_refused(self, file, refused):
        file["kspace"] = np.zeros((5, 2, 12, 7), np.complex64)
        assert refused()[0] == "kspace"

    @pytest.mark.parametrize("header", ["", "<a/>", HEADER.format(1, 0), HEADER.format(1, "inf"), HEADER[:200]])
    def test_a_header_that_says_nothing_usable(self, file, header, tmp_path, scan):
        file["reconstruction_rss"] = NOISE.astype("f4")
        file["ismrmrd_header"] = header
        file.close()
        found = scan(READER, tmp_path)
        assert [s.spacing for s in found.series] == [None] or found.verdicts[0].code == "unreadable"


XML = """<?xml version="1.0"?><SpimData version="0.2"><SequenceDescription><ImageLoader format="bdv.hdf5">
<hdf5 type="relative">{file}</hdf5></ImageLoader><ViewSetups>
<ViewSetup><id>0</id><voxelSize><unit>{unit}</unit><size>0.2 0.4 2.0</size></voxelSize></ViewSetup>
<ViewSetup><id>1</id><voxelSize><unit>µm</unit><size>0.2 0.4 1.0</size></voxelSize></ViewSetup>
</ViewSetups></SequenceDescription><ViewRegistrations>
<ViewRegistration timepoint="0" setup="0"><ViewTransform><affine>1 0 0 {x} 0 2 0 0 0 0 5 0</affine></ViewTransform>
</ViewRegistration></ViewRegistrations></SpimData>"""


class TestItk:
    @pytest.mark.parametrize(("axes", "shape"), [("yx", (5, 6)), ("zyx", (4, 5, 6)), ("tzyx", (3, 4, 5, 6))])
    @pytest.mark.parametrize("components", [1, 3])
    def test_voxels_and_places_are_simpleitks(self, tmp_path, scan, axes, shape, components):
        n = len(axes)
        array = RNG.integers(-99, 99, (*shape, components)[: n + (components > 1)]).astype(np.int16)
        image = SimpleITK.GetImageFromArray(array, isVector=components > 1)
        image.SetSpacing((0.5, 0.75, 2.5, 1)[:n])
        image.SetOrigin((-100.25, 40.5, -7.125, 0)[:n])
        direction = np.eye(n)
        direction[:2, :2] = [[0.6, -0.8], [0.8, 0.6]]
        image.SetDirection(direction.ravel().tolist())
        SimpleITK.WriteImage(image, tmp_path / "a.h5")
        [series] = scan(READER, tmp_path).series
        volume = READER.read(tmp_path, series)
        assert volume.warnings == ()
        assert (volume.grid.frame, volume.grid.unit) == ("LOCAL" if n == 2 else "LPS", "mm")
        stored = np.moveaxis(array, -1, n - min(n, 3)) if components > 1 else array
        np.testing.assert_array_equal(volume.array, stored)
        spatial = min(n, 3)
        for index in RNG.integers(0, 4, (5, spatial)).tolist():
            point = image.TransformIndexToPhysicalPoint([*index[::-1], *[0] * (n - spatial)])
            np.testing.assert_allclose(volume.grid.world(index), point[:spatial], atol=1e-9)

    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [
            ("Spacing", [1.0, 0.0, 1.0], "header"),
            ("Spacing", [1.0, np.nan, 1.0], "header"),
            ("Directions", np.eye(2), "header"),
            ("Origin", np.zeros((50, 50)), "header"),
            ("Origin", np.zeros(3, np.uint8), "header"),
            ("Directions", np.ones((3, 3)), "grid"),
        ],
    )
    def test_geometry_that_makes_no_sense_is_refused(self, file, refused, name, value, code):
        facts = {"Directions": np.eye(3), "Origin": np.zeros(3), "Spacing": np.ones(3), name: np.array(value)}
        for key, numbers in {**facts, "VoxelData": NOISE}.items():
            file[f"ITKImage/0/{key}"] = numbers
        assert refused()[0] == code

    @pytest.mark.parametrize("axes", [1, 4])
    def test_other_axes_than_space_and_time_are_refused(self, file, refused, axes):
        directions = np.eye(axes)
        directions[0, -1] = 0.5 if axes == 4 else 1
        facts = {"Directions": directions, "Origin": np.zeros(axes), "Spacing": np.ones(axes)}
        for key, numbers in {**facts, "VoxelData": NOISE[(None,) * 2][(0,) * (5 - axes)]}.items():
            file[f"ITKImage/0/{key}"] = numbers
        assert refused()[0] == "axes"


def write_bdv(file, arrays):
    """`arrays`: setup -> one array per time; a second level that must not be read."""
    for setup, times in arrays.items():
        file[f"s{setup:02d}/resolutions"] = np.array([[1.0, 1, 1], [2, 2, 2]])
        file[f"s{setup:02d}/subdivisions"] = np.array([[4, 4, 4], [4, 4, 4]])
        for t, array in enumerate(times):
            group = file.create_group(f"t{t:05d}/s{setup:02d}")
            group.create_dataset("0/cells", data=array, chunks=(4, 4, 4), compression="gzip")
            group.create_dataset("1/cells", data=array[::2, ::2, ::2], chunks=(2, 2, 2))


class TestBigDataViewer:
    def test_shorts_are_unsigned(self, file, read):
        write_bdv(file, {0: [(NOISE.astype(np.uint16) + 40000).view(np.int16)]})
        volume = read()
        assert (volume.array.dtype, volume.grid.axes, volume.grid.unit) == ("uint16", "zyx", "unknown")
        np.testing.assert_array_equal(volume.array, NOISE + 40000)
        assert volume.warnings == ("no XML file beside it; spacing, position and orientation unknown",)

    def test_setups_are_volumes_over_all_times(self, file, tmp_path, scan):
        times = [NOISE + k for k in range(3)]
        write_bdv(file, {0: times, 1: [t.astype("f4") / 2 for t in times]})
        file.close()
        (tmp_path / "a.xml").write_text(XML.format(file="a.h5", unit="micrometer", x=0))
        found = scan(READER, tmp_path)
        assert found.claimed == {"a.h5", "a.xml"}
        assert [(s.source, s.files) for s in found.series] == [(f"a.h5#s0{k}", ("a.h5", "a.xml")) for k in range(2)]
        one, two = (READER.read(tmp_path, s) for s in found.series)
        np.testing.assert_array_equal(one.array, np.stack(times))
        np.testing.assert_array_equal(two.array, np.stack(times).astype("f4") / 2)
        assert (one.grid.axes, one.grid.unit, one.warnings) == ("tzyx", "mm", ())
        np.testing.assert_allclose(one.grid.spacing, [0.002, 0.0004, 0.0002])
        np.testing.assert_allclose(two.grid.spacing, [0.001, 0.0004, 0.0002])

    @pytest.mark.parametrize(
        ("change", "said"),
        [({"file": "other.h5"}, "that of another file"), ({"unit": "pixel"}, "unknown"), ({"x": 7}, "not applied")],
    )
    def test_what_the_xml_file_does_not_settle_is_told(self, file, read, tmp_path, change, said):
        write_bdv(file, {0: [NOISE]})
        (tmp_path / "a.xml").write_text(XML.format(**{"file": "a.h5", "unit": "um", "x": 0} | change))
        assert any(said in warning for warning in read().warnings)

    def test_missing_and_unequal_times_are_refused(self, file, refused, tmp_path):
        write_bdv(file, {0: [NOISE, NOISE], 1: [NOISE]})
        assert refused()[0] == "missing-times"
        with h5py.File(tmp_path / "a.h5", "w") as again:
            write_bdv(again, {0: [NOISE, NOISE[1:]]})
        assert refused()[0] == "unequal-times"


class TestHostile:
    def test_links_out_of_the_file_are_not_followed(self, file, refused, tmp_path):
        with h5py.File(tmp_path / "secret.bin", "w") as other:
            other["x"] = NOISE
        file["out"] = h5py.ExternalLink("secret.bin", "x")
        file["soft"] = h5py.SoftLink("/out")
        for path in ("out", "soft"):
            assert refused(ReadOptions(dataset=path))[0] == "unsafe-file"
        assert refused()[0] == "no-volume"

    @pytest.mark.parametrize("name", ["x", "reconstruction_rss", "t00000/s00/0/cells"])
    @pytest.mark.parametrize("how", ["external", "virtual", "link"])
    def test_values_from_other_files_are_refused(self, file, refused, tmp_path, name, how):
        (tmp_path / "secret.bin").write_bytes(NOISE.tobytes())
        if name.startswith("t"):
            file["s00/resolutions"] = np.ones((1, 3))
        if how == "external":
            file.create_dataset(name, NOISE.shape, NOISE.dtype, external=[(str(tmp_path / "secret.bin"), 0, 420)])
        elif how == "virtual":
            layout = h5py.VirtualLayout(NOISE.shape, NOISE.dtype)
            layout[...] = h5py.VirtualSource(str(tmp_path / "secret.bin"), "x", NOISE.shape)
            file.create_virtual_dataset(name, layout)
        else:
            file[name] = h5py.ExternalLink(str(tmp_path / "secret.bin"), "x")
        assert refused()[0] == ("no-volume" if (name, how) == ("x", "link") else "unsafe-file")

    def test_a_declared_size_beyond_the_file_is_refused(self, file, refused):
        file.create_dataset("x", (2**20, 2**20), "u1", chunks=(64, 64))
        assert refused()[0] == "truncated"

    def test_huge_chunks_are_refused(self, file, refused):
        file.create_dataset("x", (2**31, 2), "u1", chunks=(2**30 + 1, 2))
        assert refused()[0] == "unsafe-file"

    def test_a_circle_of_groups_ends(self, file, read):
        file["a/b/x"] = NOISE
        file["a/b/up"] = file["a"]
        np.testing.assert_array_equal(read().array, NOISE)

    def test_damaged_chunks_are_an_error(self, file, tmp_path, scan):
        file.create_dataset("x", data=NOISE, chunks=NOISE.shape, fletcher32=True)
        offset = file["x"].id.get_chunk_info(0).byte_offset
        file.close()
        data = bytearray((tmp_path / "a.h5").read_bytes())
        data[offset + 9] ^= 1
        (tmp_path / "a.h5").write_bytes(data)
        [series] = scan(READER, tmp_path).series
        with pytest.raises(SourceError) as caught:
            READER.read(tmp_path, series)
        assert caught.value.code == "unreadable"

    def test_a_case_of_a_bundle_is_recognised(self, tmp_path, oblique, voxels, refusal):
        with CaseWriter(tmp_path / "a.h5", case="a", uuid="x") as writer:
            writer.add_image("image", voxels, oblique)
        code, message = refusal(READER, tmp_path)
        assert (code, "ndvol.open" in message) == ("own-format", True)

    def test_what_is_no_hdf5(self, tmp_path, scan):
        (tmp_path / "a.h5").write_bytes(b"text")
        (tmp_path / "b.hdf").write_bytes(b"\x0e\x03\x13\x01 HDF4")
        (tmp_path / "c.medh5").write_bytes(b"")
        found = scan(READER, tmp_path)
        assert {v.source: v.code for v in found.verdicts} == {"a.h5": "damage", "c.medh5": "damage"}
        assert found.claimed == {"a.h5", "c.medh5"}

    def test_medh5_is_refused_by_name(self, tmp_path, scan):
        with h5py.File(tmp_path / "a.medh5", "w") as file:
            file["images/CT"] = NOISE
        assert [v.code for v in scan(READER, tmp_path).verdicts] == ["medh5"]


def test_plug_ins_are_off_before_h5py_loads():
    """HDF5 looks at the variable once, when h5py loads it."""
    spy = """
import os, sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "h5py":
            print(os.environ.get("HDF5_PLUGIN_PRELOAD"))
sys.meta_path.insert(0, Spy())
import {}
"""
    environment = {k: v for k, v in os.environ.items() if k != "HDF5_PLUGIN_PRELOAD"}
    for module in ("ndvol.store", "ndvol.hdf5", "ndvol.formats.hdf5_files"):
        done = subprocess.run(
            [sys.executable, "-c", spy.format(module)], capture_output=True, text=True, env=environment, check=True
        )
        assert done.stdout.split() == ["::"], module


def test_the_reader_is_told_by_its_suffixes(tmp_path):
    assert READER.scan(tmp_path, ["x.mnc", "x.nc", ".x.h5", "x.mat"]).claimed == frozenset()


def test_a_process_of_its_own_scans_alike(tmp_path, scan, monkeypatch):
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = NOISE
    (tmp_path / "broken.h5").write_bytes(b"")
    here = scan(READER, tmp_path)
    monkeypatch.undo()
    assert scan(READER, tmp_path) == here
    assert (len(here.series), len(here.verdicts)) == (2, 1)
