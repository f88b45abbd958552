"""Videos written by OpenCV's encoders, animations by Pillow's."""

import builtins
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from ndvol.errors import SourceError
from ndvol.formats.video import VideoReader

READER = VideoReader()
FRAMES = np.random.default_rng(0).integers(0, 256, (7, 32, 48, 3)).astype(np.uint8)
SMOOTH = np.clip(np.add.outer(np.arange(7) * 10, np.add.outer(np.arange(32) * 3, np.arange(48) * 2)), 0, 255)
SMOOTH = np.repeat(SMOOTH[..., None], 3, -1).astype(np.uint8)


def write_video(file, frames, codec, *, rate=12.5):
    """(t, y, x, c) with red first, or (t, y, x)."""
    colour = frames.ndim == 4
    size = frames.shape[2], frames.shape[1]
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, size, colour)
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1] if colour else frame))
    writer.release()
    return file


class TestVideo:
    @pytest.mark.parametrize(("suffix", "codec"), [("avi", "HFYU"), ("avi", "MPNG"), ("mov", "png "), ("mkv", "MPNG")])
    def test_lossless_frames_come_back_red_first(self, tmp_path, read_one, suffix, codec):
        write_video(tmp_path / f"a.{suffix}", FRAMES, codec)
        volume = read_one(READER, tmp_path)
        assert (volume.grid.axes, volume.grid.unit, volume.array.dtype) == ("tcyx", "unknown", "uint8")
        np.testing.assert_array_equal(volume.array, FRAMES.transpose(0, 3, 1, 2))
        assert (volume.attributes, volume.warnings) == ({"t_spacing_s": 0.08}, ())

    @pytest.mark.parametrize("kind", ["mp4:mp4v", "webm:VP80", "webm:VP90", "avi:MJPG"])
    def test_usual_codecs_lose_little(self, tmp_path, read_one, kind):
        suffix, codec = kind.split(":")
        write_video(tmp_path / f"a.{suffix}", SMOOTH, codec)
        volume = read_one(READER, tmp_path)
        assert volume.array.shape == (7, 3, 32, 48)
        assert np.abs(volume.array.astype(int) - SMOOTH.transpose(0, 3, 1, 2)).mean() < 4
        assert volume.attributes["t_spacing_s"] == pytest.approx(0.08, abs=1e-3)

    @pytest.mark.parametrize(("suffix", "codec"), [("avi", "FFV1"), ("mkv", "FFV1"), ("avi", "Y800")])
    def test_grey_frames_have_no_colours(self, tmp_path, read_one, suffix, codec):
        write_video(tmp_path / f"a.{suffix}", FRAMES[..., 0], codec)
        volume = read_one(READER, tmp_path)
        assert volume.grid.axes == "tyx"
        np.testing.assert_array_equal(volume.array, FRAMES[..., 0])

    def test_grey_lossless_labels(self, tmp_path, read_one):
        write_video(tmp_path / "a.avi", FRAMES[..., 0] // 64, "FFV1")
        np.testing.assert_array_equal(read_one(READER, tmp_path, as_label=True).array, FRAMES[..., 0] // 64)
        write_video(tmp_path / "a.avi", FRAMES, "HFYU")
        with pytest.raises(SourceError, match="it has colours"):
            read_one(READER, tmp_path, as_label=True)

    def test_one_frame_has_no_time(self, tmp_path, read_one):
        write_video(tmp_path / "a.avi", FRAMES[:1], "HFYU")
        volume = read_one(READER, tmp_path)
        assert (volume.grid.axes, volume.attributes) == ("cyx", {})

    @pytest.mark.parametrize("codec", ["FFV1", "RGBA"])
    def test_alpha_is_refused(self, tmp_path, refusal, codec):
        write_video(tmp_path / "a.avi", FRAMES, codec)
        code, message = refusal(READER, tmp_path)
        assert code == "voxel-type"
        assert "no alpha channel" in message

    def test_deeper_samples_are_not_narrowed(self, tmp_path, refusal):
        properties = [cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U, cv2.VIDEOWRITER_PROP_IS_COLOR, 0]
        fourcc = cv2.VideoWriter_fourcc(*"FFV1")
        writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.CAP_FFMPEG, fourcc, 10, (48, 32), properties)
        for frame in FRAMES[..., 0]:
            writer.write(frame.astype(np.uint16) * 250)
        writer.release()
        assert refusal(READER, tmp_path)[0] == "voxel-type"

    def test_rotation_is_applied_and_told(self, tmp_path, read_one):
        write_video(tmp_path / "a.mov", FRAMES, "png ")
        data = bytearray((tmp_path / "a.mov").read_bytes())
        matrix = data.index(b"tkhd") + 4 + 40
        unit, clockwise = 1 << 16, [0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30]
        assert data[matrix : matrix + 4] == unit.to_bytes(4, "big")
        data[matrix : matrix + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in clockwise)
        (tmp_path / "a.mov").write_bytes(data)
        volume = read_one(READER, tmp_path)
        np.testing.assert_array_equal(volume.array, np.rot90(FRAMES, -1, (1, 2)).transpose(0, 3, 1, 2))
        assert "turned by" in volume.warnings[0]

    def test_a_varying_rate_gives_the_times(self, tmp_path, read_one):
        write_video(tmp_path / "a.mov", FRAMES, "png ")
        (tmp_path / "a.mov").write_bytes(with_shorter_steps(bytearray((tmp_path / "a.mov").read_bytes())))
        volume = read_one(READER, tmp_path)
        np.testing.assert_array_equal(volume.array, FRAMES.transpose(0, 3, 1, 2))
        times = json.loads(volume.attributes["t_times_s"])
        np.testing.assert_allclose(times, [0, 0.08, 0.16, 0.2, 0.24, 0.28, 0.32], atol=1e-3)
        assert "frame rate varies" in volume.warnings[0]

    @pytest.mark.parametrize("suffix", ["avi", "mkv", "mov"])
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
    def test_truncated_videos_are_refused(self, tmp_path, scan, suffix, share):
        codec = "png " if suffix == "mov" else "MPNG"
        file = write_video(tmp_path / f"a.{suffix}", np.concatenate([FRAMES] * 4), codec)
        data = file.read_bytes()
        file.write_bytes(data[: int(share * len(data))])
        found = scan(READER, tmp_path)
        for series in found.series:
            with pytest.raises(SourceError) as caught:
                READER.read(tmp_path, series)
            assert caught.value.code == "truncated"
        assert found.series or found.verdicts[0].code in ("unreadable", "truncated", "shape")

    def test_play_lists_are_never_given_to_ffmpeg(self, tmp_path, scan):
        """FFmpeg goes by content, and a play list may name any file or address."""
        (tmp_path / "secret.avi").write_bytes(b"")
        (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\nsecret.avi\n#EXT-X-ENDLIST\n")
        (tmp_path / "b.avi").write_text("ffconcat version 1.0\nfile secret.avi\n")
        codes = {v.source: (v.code, v.message) for v in scan(READER, tmp_path).verdicts}
        assert {k: c for k, (c, _) in codes.items()} == dict.fromkeys(["a.mp4", "b.avi", "secret.avi"], "unreadable")
        assert all("no video that its suffix promises" in m for _, m in codes.values())

    def test_a_film_too_long_for_memory_is_refused(self, tmp_path, refusal, monkeypatch):
        write_video(tmp_path / "a.avi", FRAMES, "HFYU")
        monkeypatch.setattr("ndvol.formats.film.MAX_BYTES", FRAMES.size - 1)
        code, message = refusal(READER, tmp_path)
        assert (code, "7 frames of 48 x 32: 32256 bytes" in message) == ("too-large", True)

    def test_without_opencv_the_extra_is_named(self, tmp_path, refusal, monkeypatch):
        write_video(tmp_path / "a.avi", FRAMES, "HFYU")
        real = builtins.__import__

        def hide(name, *args, **kwargs):
            if name == "cv2":
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", hide)
        code, message = refusal(READER, tmp_path)
        assert (code, 'pip install "ndvol[video]"' in message) == ("needs-extra", True)


def with_shorter_steps(data):
    """A QuickTime file with half the step from the third frame on: its table of durations (stts) gets a second row."""
    at = data.index(b"stts") - 4
    count, step = (int.from_bytes(data[at + k : at + k + 4], "big") for k in (16, 20))
    assert data.index(b"mdat") < at, "the samples lie in front, so that their offsets stay"
    entries = [(2, step), (count - 2, step // 2)]
    table = b"".join(n.to_bytes(4, "big") for n in (0, 2, *(v for e in entries for v in e)))
    grown = len(table) - 16
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        size = data.index(box) - 4
        data[size : size + 4] = (int.from_bytes(data[size : size + 4], "big") + grown).to_bytes(4, "big")
    return bytes(data[: at + 8]) + table + bytes(data[at + 24 :])


def write_animation(file, frames, **options):
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(file, save_all=True, append_images=pictures[1:], **options)
    return file


class TestAnimations:
    @pytest.mark.parametrize("suffix", ["png", "apng", "webp"])
    def test_colours(self, tmp_path, read_one, suffix):
        options = {"lossless": True} if suffix == "webp" else {}
        kind = "webp" if suffix == "webp" else "png"
        write_animation(tmp_path / f"a.{suffix}", FRAMES, duration=40, format=kind, **options)
        volume = read_one(READER, tmp_path)
        assert (volume.grid.axes, volume.attributes) == ("tcyx", {"t_spacing_s": 0.04})
        np.testing.assert_array_equal(volume.array, FRAMES.transpose(0, 3, 1, 2))

    def test_gif(self, tmp_path, read_one):
        few = np.stack([FRAMES[..., 0] // 64 * 60] * 3, -1)
        write_animation(tmp_path / "a.gif", few, duration=[20, 20, 50, 20, 20, 20, 20])
        volume = read_one(READER, tmp_path)
        np.testing.assert_array_equal(volume.array, few.transpose(0, 3, 1, 2))
        assert json.loads(volume.attributes["t_times_s"]) == [0, 0.02, 0.04, 0.09, 0.11, 0.13, 0.15]

    def test_grey_png(self, tmp_path, read_one):
        write_animation(tmp_path / "a.png", FRAMES[..., 0], duration=40)
        volume = read_one(READER, tmp_path, as_label=True)
        assert volume.grid.axes == "tyx"
        np.testing.assert_array_equal(volume.array, FRAMES[..., 0])

    def test_a_picture_in_front_is_no_frame(self, tmp_path, read_one):
        write_animation(tmp_path / "a.png", FRAMES, duration=40, default_image=True)
        np.testing.assert_array_equal(read_one(READER, tmp_path).array, FRAMES[1:].transpose(0, 3, 1, 2))

    def test_a_still_is_a_picture(self, tmp_path, read_one):
        Image.fromarray(FRAMES[0]).save(tmp_path / "a.webp", lossless=True)
        volume = read_one(READER, tmp_path)
        assert (volume.grid.axes, volume.attributes, volume.warnings) == ("cyx", {}, ())
        np.testing.assert_array_equal(volume.array, FRAMES[0].transpose(2, 0, 1))

    def test_durations_of_zero_say_nothing(self, tmp_path, read_one):
        write_animation(tmp_path / "a.png", FRAMES, duration=0)
        volume = read_one(READER, tmp_path)
        assert (volume.attributes, volume.warnings) == ({}, ("the times of the frames are not stated",))

    def test_transparency_is_refused(self, tmp_path, read_one):
        alpha = np.full((7, 32, 48, 4), 255, np.uint8)
        alpha[..., :3] = FRAMES
        write_animation(tmp_path / "a.png", alpha)
        np.testing.assert_array_equal(read_one(READER, tmp_path).array, FRAMES.transpose(0, 3, 1, 2))
        alpha[3, 5, 5, 3] = 254
        write_animation(tmp_path / "a.png", alpha)
        with pytest.raises(SourceError, match=r"frame 3 of a\.png is partly transparent"):
            read_one(READER, tmp_path)

    def test_sixteen_bits_are_refused(self, tmp_path, refusal):
        write_animation(tmp_path / "a.png", FRAMES[..., 0].astype(np.uint16) * 250)
        assert refusal(READER, tmp_path)[0] == "voxel-type"

    def test_a_turned_picture_is_refused(self, tmp_path, refusal):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(FRAMES[0]).save(tmp_path / "a.webp", exif=exif)
        assert refusal(READER, tmp_path)[0] == "orientation"

    @pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
    def test_every_truncation_is_refused(self, tmp_path, scan, suffix):
        file = write_animation(tmp_path / f"a.{suffix}", FRAMES, duration=40)
        data = file.read_bytes()
        refused = 0
        for size in np.linspace(40, len(data) - 1, 60).astype(int):
            file.write_bytes(data[:size])
            found = scan(READER, tmp_path)
            for series in found.series:
                with pytest.raises(SourceError):
                    READER.read(tmp_path, series)
            refused += bool(found.series or found.verdicts)
        assert refused > 50  # a PNG cut before its first pixels is not known to be animated
