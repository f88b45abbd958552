import io
import struct
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from ndvol.errors import SourceError
from ndvol.formats.pictures import PictureReader
from ndvol.formats.video import VideoReader
from ndvol.formats.writing import write_pictures

READER = PictureReader()
GREY = np.random.default_rng(0).integers(0, 256, (12, 6, 7), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (12, 6, 7), dtype=np.uint16)
COLOURS = np.random.default_rng(2).integers(0, 65536, (6, 7, 3), dtype=np.uint16)


def palette_picture():
    picture = Image.fromarray(GREY[0] % 4).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 200, 0, 1, 2, 3])
    return picture


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("truth", [GREY, DEEP], ids=["uint8", "uint16"])
def test_a_numbered_folder_is_one_volume(tmp_path, read_one, scan, suffix, truth):
    write_pictures(tmp_path / "stack", truth, suffix=suffix)
    series = scan(READER, tmp_path).series[0]
    assert (series.source, series.key, series.name, series.spacing) == ("stack", "stack", "stack", None)
    volume = read_one(READER, tmp_path)
    np.testing.assert_array_equal(volume.array, truth)
    assert volume.array.dtype == truth.dtype
    assert (volume.grid.axes, volume.grid.frame, volume.grid.unit) == ("zyx", "LOCAL", "unknown")


def test_order_is_by_number(tmp_path, read_one):
    for k, plane in enumerate(GREY):
        Image.fromarray(plane).save(tmp_path / f"img{k}_v2.png")
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, GREY)


def test_several_stacks_in_a_folder(tmp_path, scan):
    for stem in ("left_", "right_"):
        write_pictures(tmp_path / "eye", GREY[:3], stem=stem)
    found = scan(READER, tmp_path).series
    assert [(s.source, s.key, s.name) for s in found] == [
        ("eye/left_*.png", "eye/left", "left"),
        ("eye/right_*.png", "eye/right", "right"),
    ]


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["t1_z1.png", "t1_z2.png", "t2_z1.png"]])
def test_names_that_are_no_one_stack_are_single_pictures(tmp_path, scan, names):
    for name, plane in zip(names, GREY, strict=False):
        Image.fromarray(plane).save(tmp_path / name)
    found = scan(READER, tmp_path).series
    assert [(s.key, s.axes, len(s.files)) for s in found] == [(n[:-4], "yx", 1) for n in names]


def test_gaps_are_refused_with_the_missing_numbers(tmp_path, refusal):
    for file in write_pictures(tmp_path, GREY)[3:5]:
        file.unlink()
    code, message = refusal(READER, tmp_path)
    assert code == "missing-slices"
    assert "also 4, 5" in message


def test_one_number_twice_is_refused(tmp_path, refusal):
    write_pictures(tmp_path, GREY[:3])
    Image.fromarray(GREY[3]).save(tmp_path / "slice2.png")
    assert refusal(READER, tmp_path)[0] == "duplicate-slices"


@pytest.mark.parametrize("other", [GREY[0, :5], DEEP[0], np.dstack([GREY[0]] * 3)], ids=["size", "bits", "colours"])
def test_unequal_pictures_are_refused(tmp_path, refusal, other):
    file = write_pictures(tmp_path, GREY[:4])[2]
    Image.fromarray(np.ascontiguousarray(other)).save(file)
    code, message = refusal(READER, tmp_path)
    assert code == "unequal-pictures"
    assert message.startswith("slice003.png differs")


def test_a_stack_with_an_unreadable_picture_is_refused(tmp_path, scan):
    write_pictures(tmp_path, GREY[:4])[3].write_bytes(b"no picture")
    found = scan(READER, tmp_path)
    assert not found.series
    assert {v.code for v in found.verdicts} == {"unreadable", "incomplete"}
    assert str(tmp_path) not in repr(found.verdicts)


@pytest.mark.parametrize("alpha", [False, True])
def test_sixteen_bit_colours_keep_sixteen_bits(tmp_path, read_one, alpha):
    array = np.dstack([COLOURS, np.full((6, 7, 1), 65535, np.uint16)]) if alpha else COLOURS
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=True), str(tmp_path / "a.png"))
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.array.dtype) == ("cyx", "uint16")
    np.testing.assert_array_equal(volume.array, np.moveaxis(COLOURS, -1, 0))
    assert bool(volume.warnings) == alpha


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_a_palette_is_colours_as_image_and_indices_as_label(tmp_path, read_one, suffix):
    palette_picture().save(tmp_path / f"a.{suffix}")
    image = read_one(READER, tmp_path)
    assert image.grid.axes == "cyx"
    np.testing.assert_array_equal(image.array, np.moveaxis(np.array(palette_picture().convert("RGB")), -1, 0))
    label = read_one(READER, tmp_path, as_label=True)
    assert (label.grid.axes, label.array.dtype) == ("yx", "uint8")
    np.testing.assert_array_equal(label.array, GREY[0] % 4)


def test_a_stack_of_colours_has_c_first(tmp_path, read_one):
    truth = np.random.default_rng(0).integers(0, 256, (4, 6, 7, 3), dtype=np.uint8)
    for k, plane in enumerate(truth):
        Image.fromarray(plane).save(tmp_path / f"{k}.png")
    volume = read_one(READER, tmp_path)
    assert volume.grid.axes == "czyx"
    np.testing.assert_array_equal(volume.array, truth.transpose(3, 0, 1, 2))


def grey_png(samples, bits, *extra):
    """A grey PNG of 1, 2, 4 or 8 bits (PNG 7.2: packed, high bits first) with `extra` chunks."""
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for row in samples
    )
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, 0, 0, 0, 0)),
        *extra,
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_keep_their_stored_values(tmp_path, read_one, bits):
    samples = GREY[0] % 2**bits
    (tmp_path / "a.png").write_bytes(grey_png(samples, bits))
    volume = read_one(READER, tmp_path)
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array, samples)


def test_a_transparent_grey_that_no_pixel_has_changes_nothing(tmp_path, read_one):
    samples = GREY[0] % 3
    (tmp_path / "a.png").write_bytes(grey_png(samples, 2, (b"tRNS", b"\0\3")))
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, samples)


def test_an_animated_png_is_left_to_the_reader_of_videos(tmp_path, scan):
    frames = [Image.fromarray(np.full((3, 4), k, np.uint8)) for k in range(2)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.png")
    assert scan(READER, tmp_path).claimed == {"b.png"}
    assert scan(VideoReader(), tmp_path).claimed == {"a.png"}


def test_bilevel_tiff_is_zero_and_one(tmp_path, read_one):
    tifffile.imwrite(tmp_path / "a.tif", GREY[0] > 99)
    volume = read_one(READER, tmp_path)
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array, GREY[0] > 99)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, read_one, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(GREY[0])
    picture.save(tmp_path / "a.png", exif=exif)
    volume = read_one(READER, tmp_path)
    turned = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose}
    turned |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}
    np.testing.assert_array_equal(volume.array, turned[orientation](GREY[0]))
    assert bool(volume.warnings) == (orientation != 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_deep_colours_agrees_with_pillow(tmp_path, read_one, orientation):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(COLOURS, isVector=True), str(tmp_path / "a.png"))
    exif = Image.Exif()
    exif[0x0112] = orientation
    chunk = exif.tobytes().removeprefix(b"Exif\0\0")
    data = (tmp_path / "a.png").read_bytes()
    packed = struct.pack(">I", len(chunk)) + b"eXIf" + chunk + struct.pack(">I", zlib.crc32(b"eXIf" + chunk))
    (tmp_path / "a.png").write_bytes(data[:33] + packed + data[33:])
    deep = read_one(READER, tmp_path).array
    Image.fromarray((COLOURS >> 8).astype(np.uint8)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(deep >> 8, read_one(READER, tmp_path).array)


def test_transparency_is_refused_and_opacity_dropped(tmp_path, read_one):
    for alpha, fails in ((255, False), (254, True)):
        array = np.dstack([np.moveaxis(GREY[:3], 0, -1), np.full((6, 7), alpha, np.uint8)])
        Image.fromarray(array).save(tmp_path / "a.png")
        if fails:
            with pytest.raises(SourceError, match="partly transparent"):
                read_one(READER, tmp_path)
        else:
            np.testing.assert_array_equal(read_one(READER, tmp_path).array, GREY[:3])


def test_cmyk_is_refused(tmp_path, refusal):
    Image.fromarray(GREY[0]).convert("CMYK").save(tmp_path / "a.jpg")
    assert refusal(READER, tmp_path)[0] == "colour"


def test_jpeg_is_what_pillow_decodes(tmp_path, read_one):
    Image.fromarray(GREY[0]).save(tmp_path / "a.JPG")
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, np.array(Image.open(tmp_path / "a.JPG")))


def test_a_huge_declared_picture_is_refused(tmp_path, refusal):
    data = bytearray(grey_png(GREY[0], 8))
    data[16:24] = struct.pack(">II", 2**20, 2**20)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    assert refusal(READER, tmp_path)[0] in ("too-large", "unreadable")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_pages_are_planes(tmp_path, read_one, dtype):
    truth = DEEP.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", truth, photometric="minisblack")
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.array.dtype) == ("zyx", dtype)
    np.testing.assert_array_equal(volume.array, truth)


@pytest.mark.parametrize("deep", [False, True])
def test_lzw_is_read_without_loss(tmp_path, read_one, deep):
    planes = [Image.fromarray(plane) for plane in (DEEP if deep else GREY)]
    planes[0].save(tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=planes[1:])
    np.testing.assert_array_equal(read_one(READER, tmp_path).array, DEEP if deep else GREY)


def test_damaged_lzw_is_refused(tmp_path, scan):
    Image.fromarray(GREY[0]).save(tmp_path / "a.tif", compression="tiff_lzw")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages[0].dataoffsets[0]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[offset + 8 : offset + 16] = b"\xff" * 8
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(SourceError):
        READER.read(tmp_path, scan(READER, tmp_path).series[0])


@pytest.mark.parametrize("compressor", ["LZW", "PackBits", "Deflate"])
def test_compressed_sixteen_bit_colours_are_never_narrowed(tmp_path, scan, compressor):
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.tif"))
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(SimpleITK.GetImageFromArray(COLOURS, isVector=True))
    series = scan(READER, tmp_path).series[0]
    # tifffile decodes LZW with imagecodecs only, which nothing here asks for; Pillow narrows it.
    if compressor == "LZW" and find_spec("imagecodecs") is None:
        with pytest.raises(SourceError, match="decoded to uint8, the header says uint16"):
            READER.read(tmp_path, series)
    else:
        np.testing.assert_array_equal(READER.read(tmp_path, series).array, np.moveaxis(COLOURS, -1, 0))


def test_imagej_states_spacing_and_axes(tmp_path, read_one, scan):
    metadata = {"spacing": 3.0, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", DEEP, imagej=True, resolution=(2, 4), metadata=metadata)
    volume = read_one(READER, tmp_path)
    assert (volume.grid.unit, volume.grid.spacing) == ("um", (3.0, 0.25, 0.5))
    assert scan(READER, tmp_path).series[0].spacing == (0.003, 0.00025, 0.0005)


def test_ome_states_spacing_and_axes(tmp_path, read_one):
    truth = DEEP.reshape(2, 3, 2, 6, 7)
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2000.0, "PhysicalSizeZUnit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", truth, metadata={"axes": "TZCYX", **sizes})
    volume = read_one(READER, tmp_path)
    assert (volume.grid.axes, volume.grid.unit, volume.grid.spacing) == ("tczyx", "um", (2.0, 0.25, 0.5))
    np.testing.assert_array_equal(volume.array, truth.transpose(0, 2, 1, 3, 4))


def test_spacing_stated_for_some_axes_is_unknown(tmp_path, read_one):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, imagej=True, resolution=(2, 4), metadata={"unit": "um", "axes": "ZYX"})
    assert read_one(READER, tmp_path).grid.unit == "unknown"


def test_pages_of_different_kinds_are_refused(tmp_path, refusal):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY[0])
        file.write(DEEP[0, :3])
    assert refusal(READER, tmp_path)[0] == "mixed-pages"


@pytest.mark.parametrize("cut", [1, 40, 700])
@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"ome": True}, {"compression": "zlib"}], ids=str)
def test_cut_tiff_is_never_a_shorter_volume(tmp_path, scan, options, cut):
    stream = io.BytesIO()
    tifffile.imwrite(stream, DEEP, photometric="minisblack", **options)
    (tmp_path / "a.tif").write_bytes(stream.getvalue()[:-cut])
    found = scan(READER, tmp_path)
    assert found.series or [v.code for v in found.verdicts] == ["unreadable"]
    for series in found.series:
        try:
            array = READER.read(tmp_path, series).array
        except SourceError:
            continue
        np.testing.assert_array_equal(array, DEEP)
