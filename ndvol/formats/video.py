"""Moving pictures: videos through OpenCV (extra ``video``), animated GIF, PNG and WebP through Pillow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import DEFAULT_READING, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.animations import is_animation, read_animation, read_animation_header
from ndvol.formats.film import Film
from ndvol.formats.values import as_labels
from ndvol.formats.video_frames import is_video, read_video, read_video_header
from ndvol.geometry import Grid
from ndvol.verdict import Verdict

EVEN_MS = 1.5
"""Frames are evenly spaced when no step is off by more: Matroska and WebM round times to whole milliseconds."""


class VideoReader:
    """Reads ``.mp4``, ``.mov``, ``.avi``, ``.mkv``, ``.webm``, ``.gif``, ``.webp``, animated ``.png`` and their like.

    Frames lie along ``t``, colours along ``c``; a single frame has no ``t``. Nothing is known of the spacing. Times
    become the attribute ``t_spacing_s``, or ``t_times_s`` where the frame rate varies. Samples have 8 bits; deeper
    ones are refused, never narrowed. Videos carry no checksums, so decoders pass damage of pixels on unnoticed.
    """

    name = "video"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        series: list[Series] = []
        verdicts: list[Verdict] = []
        claimed = [path for path in files if is_video(path) or is_animation(root, path)]
        for path in claimed:
            try:
                series.append(_series(path, _header(root, path)))
            except NdvolError as error:
                verdicts.append(Verdict.refused(path, error))
        return Scan(tuple(series), tuple(verdicts), frozenset(claimed))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        [path] = series.files
        film = _header(root, path)
        if _grid(film).shape != series.shape:
            raise SourceError(f"{series.source} changed since it was scanned", code="changed")
        if as_label and film.colours:
            raise SourceError(
                f"{series.source} is no label volume: it has colours",
                hint="import it as an image, or write one grey label map per structure",
                code="label-values",
            )
        array, times = (read_video if is_video(path) else read_animation)(root, film)
        grid = _grid(film)
        array = array.reshape(grid.shape)
        facts, notes = _times(times)
        return VolumeData(
            as_labels(array, series.source) if as_label else array,
            grid,
            attributes=facts,
            warnings=(*film.warnings, *notes),
        )


def _header(root: Path, path: str) -> Film:
    return read_video_header(root, path) if is_video(path) else read_animation_header(root, path)


def _grid(film: Film) -> Grid:
    sizes = {"t": film.count, "c": 3, "y": film.rows, "x": film.columns}
    axes = "".join(a for a in sizes if (a != "c" or film.colours) and (a != "t" or film.count > 1))
    return Grid.regular(axes, [sizes[a] for a in axes])


def _series(path: str, film: Film) -> Series:
    grid = _grid(film)
    stem = path.rpartition(".")[0]
    return Series(
        reader=VideoReader.name,
        source=path,
        files=(path,),
        key=stem,
        name=stem.rpartition("/")[2],
        modality="",
        axes=grid.axes,
        shape=grid.shape,
        dtype="uint8",
        spacing=None,
        warnings=film.warnings,
    )


def _times(times_ms: Sequence[float]) -> tuple[dict[str, float | int | str], list[str]]:
    """Attributes and warnings for the times of the frames; nothing where they do not rise."""
    steps = np.diff(times_ms)
    if not steps.size:
        return {}, []
    if not steps.min() > 0:
        return {}, ["the times of the frames are not stated"]
    mean = float(steps.mean())
    if np.abs(steps - mean).max() <= EVEN_MS:
        return {"t_spacing_s": round(mean / 1000, 9)}, []
    seconds = [round(float(t) / 1000, 6) for t in times_ms]
    return {"t_times_s": json.dumps(seconds)}, ["the frame rate varies; the attribute t_times_s holds the times"]
