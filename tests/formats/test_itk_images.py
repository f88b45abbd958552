import contextlib
import gzip
import zlib

import numpy as np
import pytest
import SimpleITK

from ndvol.errors import NdvolError, SourceError
from ndvol.formats.itk_images import ItkReader

READER = ItkReader()
POINTS = ((0, 0, 0), (3, 4, 5), (1, 2, 3))
LPS = {"space": "left-posterior-superior", "space directions": "(1,0,0) (0,1,0) (0,0,2)", "space origin": "(1,2,3)"}


def write_nrrd(path, array, fields=None, *, order="<", encoding="raw", lines=(), **more):
    """A NRRD of any header; `array` in C order, the fields in the order of the file."""
    stored = np.asarray(array).astype(array.dtype.newbyteorder(order))
    data = stored.tobytes()
    data = gzip.compress(data, mtime=0) if encoding == "gzip" else data.hex().encode() if encoding == "hex" else data
    data = b" ".join(b"%d" % v for v in stored.ravel()) if encoding == "ascii" else data
    head = {
        "type": array.dtype.name,
        "dimension": array.ndim,
        "sizes": " ".join(map(str, array.shape[::-1])),
        "encoding": encoding,
        "endian": "little" if order == "<" else "big",
        **(LPS if fields is None else fields),
        **more,
    }
    text = "NRRD0005\n" + "".join(f"{k}: {v}\n" for k, v in head.items() if v is not None) + "".join(lines)
    path.write_bytes(text.encode() + (b"" if "data file" in head else b"\n" + data))
    return data


def write_meta(path, array, data=b"", file="LOCAL", **fields):
    head = {
        "ObjectType": "Image",
        "NDims": array.ndim,
        "DimSize": " ".join(map(str, array.shape[::-1])),
        "ElementType": "MET_SHORT",
        **fields,
        "ElementDataFile": file,
    }
    path.write_bytes("".join(f"{k} = {v}\n" for k, v in head.items()).encode() + data)


def itk_image(array, *, vector=False, direction=None):
    image = SimpleITK.GetImageFromArray(array, isVector=vector)
    if image.GetDimension() == 3:
        image.SetSpacing((0.5, 0.75, 2.5))
        image.SetOrigin((-100.25, 40.5, -733.125))
        image.SetDirection(direction if direction is not None else (1, 0, 0, 0, 1, 0, 0, 0, 1))
    return image


def oblique_direction(flip=1.0):
    turn = SimpleITK.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5)
    return tuple((np.reshape(turn.GetMatrix(), (3, 3)) @ np.diag([flip, 1, flip])).ravel())


def assert_same_places(grid, image):
    for x, y, z in POINTS:
        theirs = image.TransformContinuousIndexToPhysicalPoint((float(x), float(y), float(z)))
        np.testing.assert_allclose(grid.world((z, y, x)), theirs, atol=1e-9)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_voxels_and_world_agree_with_simpleitk(tmp_path, voxels, read_one, suffix, packed, dtype):
    values = voxels.astype(dtype)
    for flip in (1.0, -1.0):
        image = itk_image(values, direction=oblique_direction(flip))
        SimpleITK.WriteImage(image, tmp_path / f"a.{suffix}", packed)
        volume = read_one(READER, tmp_path)
        np.testing.assert_array_equal(volume.array, values)
        assert volume.array.dtype == ("f4" if dtype == "f8" else dtype)
        assert (volume.grid.frame, volume.grid.axes, volume.warnings) == ("LPS", "zyx", ())
        assert_same_places(volume.grid, SimpleITK.ReadImage(tmp_path / f"a.{suffix}"))


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_colour_becomes_the_axis_c(tmp_path, read_one, suffix):
    colours = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 3), np.uint8)
    SimpleITK.WriteImage(itk_image(colours, vector=True), tmp_path / f"a.{suffix}")
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.grid.shape) == ("czyx", (3, 2, 3, 4))
    np.testing.assert_array_equal(np.moveaxis(volume.array, 0, -1), colours)
    with pytest.raises(SourceError, match="several values per voxel"):
        read_one(READER, tmp_path, as_label=True)


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_a_fourth_axis_is_time(tmp_path, read_one, suffix):
    series = np.arange(120, dtype=np.int16).reshape(5, 2, 3, 4)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(series, isVector=False), tmp_path / f"a.{suffix}")
    volume = read_one(READER, tmp_path)
    assert volume.grid.axes == "tzyx"
    np.testing.assert_array_equal(volume.array, series)
    assert "the fourth axis is taken as time" in volume.warnings


def test_shear_is_kept_though_simpleitk_makes_no_grid_of_it(tmp_path, voxels, read_one):
    """The witness places voxels alike, but its "direction" is no rotation; the grid keeps the shear as such."""
    write_nrrd(tmp_path / "a.nrrd", voxels, {**LPS, "space directions": "(1,0,0) (0,1,0) (0.5,0,2)"})
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.grid.affine[:3, :3], [[0.5, 0, 1], [0, 1, 0], [2, 0, 0]])
    image = SimpleITK.ReadImage(tmp_path / "a.nrrd")
    assert_same_places(volume.grid, image)
    direction = np.reshape(image.GetDirection(), (3, 3))
    assert not np.allclose(direction.T @ direction, np.eye(3))


@pytest.mark.parametrize("space", ["right-anterior-superior", "RAS", "left-anterior-superior", "LPS", "scanner-xyz"])
def test_spaces_become_lps(tmp_path, voxels, read_one, space):
    write_nrrd(tmp_path / "a.nrrd", voxels, {**LPS, "space": space})
    volume = read_one(READER, tmp_path)
    assert volume.grid.frame == "LPS"
    assert_same_places(volume.grid, SimpleITK.ReadImage(tmp_path / "a.nrrd"))
    assert bool(volume.warnings) == (space == "scanner-xyz")


@pytest.mark.parametrize(
    ("fields", "unit", "spacing"),
    [
        ({"spacings": "0.5 0.75 2"}, "mm", (2, 0.75, 0.5)),
        ({"spacings": "0.5 0.75 2", "units": '"um" "um" "um"'}, "mm", (0.002, 0.00075, 0.0005)),
        ({"spacings": "0.5 0.75 nan"}, "unknown", (1, 1, 1)),
        ({}, "unknown", (1, 1, 1)),
        ({**LPS, "space": "3D-right-handed"}, "mm", (2, 1, 1)),
        ({**LPS, "space": None, "space dimension": 3}, "mm", (2, 1, 1)),
    ],
)
def test_without_a_patient_space_the_frame_is_local(tmp_path, voxels, read_one, scan, fields, unit, spacing):
    write_nrrd(tmp_path / "a.nrrd", voxels, fields)
    volume = read_one(READER, tmp_path)
    assert (volume.grid.frame, volume.grid.unit) == ("LOCAL", unit)
    np.testing.assert_allclose(volume.grid.spacing, spacing)
    assert "position and orientation unknown" in volume.warnings[0]
    assert (scan(READER, tmp_path).series[0].spacing is None) == (unit == "unknown")


def test_units_of_the_space_become_millimetres(tmp_path, voxels, read_one, refusal):
    write_nrrd(tmp_path / "a.nrrd", voxels, {**LPS, "space units": '"cm" "cm" "cm"'})
    grid = read_one(READER, tmp_path).grid
    assert (grid.spacing, grid.origin) == ((20, 10, 10), (10, 20, 30))
    write_nrrd(tmp_path / "a.nrrd", voxels, {**LPS, "space units": '"furlong" "mm" "mm"'})
    assert refusal(READER, tmp_path)[0] == "unit"


@pytest.mark.parametrize(
    ("shape", "kinds", "axes", "to_file"),
    [
        ((2, 3, 4, 3), "RGB-color domain domain domain", "czyx", (1, 2, 3, 0)),
        ((3, 2, 3, 4), "domain domain domain list", "czyx", (0, 1, 2, 3)),
        ((2, 3, 4, 5), "time space space space", "tzyx", (1, 2, 3, 0)),
        ((5, 2, 3, 4), "domain domain domain time", "tzyx", (0, 1, 2, 3)),
        ((6, 2, 3, 4, 3), "vector domain domain domain time", "tczyx", (0, 2, 3, 4, 1)),
        ((3, 4), "domain domain", "yx", (0, 1)),
        ((2, 3, 4, 1), "stub domain domain domain", "zyx", None),
    ],
)
def test_kinds_name_the_axes(tmp_path, read_one, shape, kinds, axes, to_file):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    write_nrrd(tmp_path / "a.nrrd", array, {"kinds": kinds})
    volume = read_one(READER, tmp_path)
    assert volume.grid.axes == axes
    back = volume.array[..., None] if to_file is None else volume.array.transpose(to_file)
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "kinds",
    [
        "3D-symmetric-matrix domain domain domain",
        "list list domain domain",
        "complex domain domain domain",
        "list domain time list",
        "stub domain domain domain",
    ],
)
def test_other_kinds_are_refused(tmp_path, refusal, kinds):
    write_nrrd(tmp_path / "a.nrrd", np.zeros((2, 3, 4, 2), np.int16), {"kinds": kinds})
    code, message = refusal(READER, tmp_path)
    assert code == "axes"
    assert f"kinds {kinds.lower()}" in message


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "hex", "ascii"])
def test_encodings_and_byte_orders(tmp_path, voxels, read_one, encoding, order):
    write_nrrd(tmp_path / "a.nrrd", voxels, order=order, encoding=encoding)
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, voxels)
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "a.nrrd")))


@pytest.mark.parametrize(
    ("fields", "front"),
    [({"byte skip": "-1"}, b"junk"), ({"byte skip": "7"}, b"7 bytes"), ({"line skip": "2"}, b"one\ntwo\n")],
)
def test_what_stands_in_front_of_the_voxels_is_skipped(tmp_path, voxels, read_one, fields, front):
    (tmp_path / "v.raw").write_bytes(front + voxels.tobytes())
    write_nrrd(tmp_path / "a.nhdr", voxels, {**LPS, **fields}, **{"data file": "v.raw"})
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, voxels)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "a.nhdr")), voxels)


@pytest.mark.parametrize("form", ["nhdr-list", "nhdr-pattern", "mhd-list", "mhd-pattern"])
def test_one_file_per_plane(tmp_path, voxels, scan, form):
    (tmp_path / "planes").mkdir()
    names = [f"planes/p{k:03d}.raw" for k in range(1, len(voxels) + 1)]
    for name, plane in zip(names, voxels, strict=True):
        (tmp_path / name).write_bytes(plane.tobytes())
    listed = [f"{name}\n" for name in names]
    pattern = f"planes/p%03d.raw 1 {len(names)} 1"
    if form == "nhdr-list":
        write_nrrd(tmp_path / "a.nhdr", voxels, lines=listed, **{"data file": "LIST"})
    elif form == "nhdr-pattern":
        write_nrrd(tmp_path / "a.nhdr", voxels, **{"data file": f"{pattern} 2"})
    else:
        file = "LIST" if form == "mhd-list" else pattern
        write_meta(tmp_path / "a.mhd", voxels, "".join(listed).encode() if file == "LIST" else b"", file)
    found = scan(READER, tmp_path)
    assert found.series[0].files[1:] == tuple(names)
    assert found.claimed == set(found.series[0].files)
    np.testing.assert_array_equal(READER.read(tmp_path, found.series[0]).array, voxels)
    theirs = SimpleITK.ReadImage(tmp_path / found.series[0].files[0])
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs), voxels)


@pytest.mark.parametrize("suffix", ["nhdr", "mhd"])
@pytest.mark.parametrize("way", ["..", "absolute", "drive", "link", "linked folder", "list", "pattern"])
def test_data_outside_the_headers_folder_is_refused(tmp_path, voxels, scan, suffix, way):
    inside = tmp_path / "in"
    inside.mkdir()
    secret = tmp_path / "v1.raw"
    secret.write_bytes(voxels.tobytes())
    (inside / "link.raw").symlink_to(secret)
    (inside / "folder").symlink_to(tmp_path)
    name = {
        "..": "../v1.raw",
        "absolute": str(secret),
        "drive": "C:\\v1.raw",
        "link": "link.raw",
        "linked folder": "folder/v1.raw",
        "list": "LIST",
        "pattern": "../v%d.raw 1 1 1",
    }[way]
    listed = ["../v1.raw\n"] if way == "list" else []
    if suffix == "nhdr":
        write_nrrd(inside / "a.nhdr", voxels, lines=listed, **{"data file": name})
    else:
        write_meta(inside / "a.mhd", voxels, "".join(listed).encode(), name)
    found = scan(READER, inside)
    assert not found.series
    assert [v.code for v in found.verdicts] == ["path-escape"]
    assert found.claimed == {f"a.{suffix}"}


def test_a_detached_file_belongs_to_its_header_even_when_that_is_refused(tmp_path, voxels, scan):
    (tmp_path / "v.raw").write_bytes(voxels.tobytes()[:-2])
    write_nrrd(tmp_path / "a.nhdr", voxels, **{"data file": "./v.raw"})
    found = scan(READER, tmp_path)
    assert [v.code for v in found.verdicts] == ["truncated"]
    assert found.claimed == {"a.nhdr", "v.raw"}
    (tmp_path / "v.raw").unlink()
    assert scan(READER, tmp_path).verdicts[0].code == "missing-file"


@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii", "hex"])
def test_sizes_beyond_the_file_are_refused_in_the_scan(tmp_path, refusal, voxels, encoding):
    for sizes in ("1099511627776 4 3", "1048576 1048576 1048576"):
        write_nrrd(tmp_path / "a.nrrd", voxels, encoding=encoding, sizes=sizes)
        assert refusal(READER, tmp_path)[0] == "truncated"
    (tmp_path / "a.nrrd").unlink()
    write_meta(tmp_path / "a.mha", voxels, zlib.compress(voxels.tobytes()), DimSize=sizes, CompressedData=True)
    assert refusal(READER, tmp_path)[0] == "truncated"


def test_every_flipped_bit_of_compressed_voxels_is_noticed(tmp_path, scan):
    """SimpleITK returns wrong voxels for all of these MetaImages (see `ndvol.formats.bulk`)."""
    noise = np.random.default_rng(0).integers(0, 99, (9, 20, 30), dtype=np.int16)
    write_nrrd(tmp_path / "a.nrrd", noise, encoding="gzip")
    write_meta(tmp_path / "b.mha", noise, zlib.compress(noise.tobytes()), CompressedData=True)
    rng = np.random.default_rng(1)
    for file in ("a.nrrd", "b.mha"):
        data = (tmp_path / file).read_bytes()
        start = data.index(b"\x1f\x8b" if file == "a.nrrd" else b"LOCAL\n") + 12
        for at in rng.integers(start, len(data), 40):
            damaged = bytearray(data)
            damaged[at] ^= 1 << int(rng.integers(8))
            (tmp_path / file).write_bytes(damaged)
            series = next(s for s in scan(READER, tmp_path).series if s.source == file)
            with pytest.raises(SourceError) as caught:
                READER.read(tmp_path, series)
            assert caught.value.code == "truncated"
        (tmp_path / file).write_bytes(data)


def test_metaimage_without_a_matrix_knows_its_spacing_alone(tmp_path, voxels, read_one):
    write_meta(tmp_path / "a.mha", voxels, voxels.tobytes(), ElementSpacing="0.5 0.75 2", Modality="MET_MOD_CT")
    volume = read_one(READER, tmp_path)
    assert (volume.grid.frame, volume.grid.spacing, volume.modality) == ("LOCAL", (2.0, 0.75, 0.5), "CT")
    assert "position and orientation unknown" in volume.warnings[0]


def test_metaimage_units_become_millimetres(tmp_path, voxels, read_one):
    places = {"ElementSpacing": "1 2 3", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "10 20 30"}
    write_meta(tmp_path / "a.mha", voxels, voxels.tobytes(), **places, DistanceUnits="um")
    grid = read_one(READER, tmp_path).grid
    np.testing.assert_allclose((*grid.spacing, *grid.origin), (0.003, 0.002, 0.001, 0.01, 0.02, 0.03))
    write_meta(tmp_path / "a.mha", voxels, voxels.tobytes(), **places, DistanceUnits="furlong")
    volume = read_one(READER, tmp_path)
    assert (volume.grid.frame, volume.grid.unit) == ("LOCAL", "unknown")


def test_metaimage_big_endian_text_and_header_size(tmp_path, voxels, scan):
    big = voxels.astype(">i2").tobytes()
    write_meta(tmp_path / "big.mha", voxels, big, BinaryDataByteOrderMSB=True)
    write_meta(tmp_path / "text.mha", voxels, " ".join(map(str, [*voxels.ravel(), "\n"])).encode(), BinaryData=False)
    (tmp_path / "v.img").write_bytes(b"junk in front" + voxels.tobytes())
    write_meta(tmp_path / "end.mhd", voxels, file="v.img", HeaderSize=-1)
    found = scan(READER, tmp_path)
    assert len(found.series) == 3, found.verdicts
    for series in found.series:
        np.testing.assert_array_equal(READER.read(tmp_path, series).array, voxels)
        theirs = SimpleITK.ReadImage(tmp_path / series.source)
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs), voxels)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"ElementType": "MET_STRING"}, "voxel-type"),
        ({"ObjectType": "Mesh"}, "not-an-image"),
        ({"DimSize": "4 5"}, "axes"),
        ({"DimSize": "4 5 0"}, "shape"),
        ({"DimSize": "4 five 6"}, "shape"),
        ({"ElementSpacing": "1 0 1", "TransformMatrix": "1 0 0 0 1 0 0 0 1"}, "grid"),
        ({"ElementSpacing": "1 1 1", "TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "grid"),
        ({"ElementToIntensityFunctionSlope": "2"}, "rescale"),
        ({"CompressedData": "perhaps"}, "header"),
        ({"ElementNumberOfChannels": "nan"}, "unreadable"),
    ],
)
def test_metaimage_headers_that_are_refused(tmp_path, voxels, refusal, fields, code):
    write_meta(tmp_path / "a.mha", voxels, voxels.tobytes(), **fields)
    assert refusal(READER, tmp_path)[0] == code


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "block"}, "voxel-type"),
        ({"encoding": "bzip2"}, "encoding"),
        ({"endian": None}, "header"),
        ({"dimension": 4}, "shape"),
        ({"space directions": "(1,0,0) (0,1,0)"}, "header"),
        ({"space directions": "(1,0,0) (0,1,0) (1,0,0)"}, "grid"),
        ({"space directions": "(1,0,0) (0,1,0) none"}, "axes"),
        ({"space directions": "(1,0,0) (0,1,0) (0,0,x)"}, "header"),
        ({"byte skip": "-2"}, "header"),
        ({"SIZES": "1 1 1"}, "header"),
        ({"data file": "v%s%d.raw 1 3 1"}, "header"),
        ({"data file": "v%d.raw 1 9000000 1"}, "header"),
        ({"data file": "\0"}, "missing-file"),
    ],
)
def test_nrrd_headers_that_are_refused(tmp_path, voxels, refusal, fields, code):
    write_nrrd(tmp_path / "a.nrrd", voxels, {**LPS, **fields})
    assert refusal(READER, tmp_path)[0] == code


def test_key_and_files(tmp_path, voxels, scan):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "v.raw").write_bytes(voxels.tobytes())
    write_nrrd(tmp_path / "sub" / "scan.v1.nhdr", voxels, **{"data file": "v.raw"})
    write_nrrd(tmp_path / "sub" / "scan.v2.seg.nrrd", voxels)
    one, two = scan(READER, tmp_path).series
    assert (one.key, one.name, one.files) == ("sub/scan.v1", "scan.v1", ("sub/scan.v1.nhdr", "sub/v.raw"))
    assert (two.key, two.name) == ("sub/scan.v2", "scan.v2")


def test_any_header_text_ends_in_an_ndvol_error_or_a_volume(tmp_path, voxels, scan):
    rng = np.random.default_rng(3)
    write_nrrd(tmp_path / "a.nrrd", voxels, {**LPS, "kinds": "domain domain domain", "spacings": None})
    write_meta(
        tmp_path / "b.mha", voxels, voxels.tobytes(), ElementSpacing="1 1 2", TransformMatrix="1 0 0 0 1 0 0 0 1"
    )
    for file in (tmp_path / "a.nrrd", tmp_path / "b.mha"):
        data = file.read_bytes()
        for _ in range(60):
            damaged = bytearray(data)
            for at in rng.integers(9, 200, 3):
                damaged[at] = rng.choice(list(b"0123456789 ().,-:=\nx%/"))
            file.write_bytes(damaged)
            for series in scan(READER, tmp_path).series:
                with contextlib.suppress(NdvolError):
                    assert READER.read(tmp_path, series).array.shape == series.shape
