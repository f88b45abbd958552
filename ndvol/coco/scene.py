"""Scene: what a target samples from: one image, or images one after the other in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.coco.frame import Frame
from ndvol.coco.frames import Frames
from ndvol.errors import OptionError, UnknownNameError
from ndvol.geometry import Grid


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One or several frames of one shape.

    Attributes
    ----------
    frames : in order of time.
    stacked : whether they lie along t; else there is one, with axes of its own.
    vidid : of the video, if the frames are of one.
    """

    frames: tuple[Frame, ...]
    stacked: bool
    vidid: int | None = None

    @property
    def axes(self) -> str:
        return ("t" if self.stacked else "") + self.frames[0].axes

    @property
    def shape(self) -> tuple[int, ...]:
        return ((len(self.frames),) if self.stacked else ()) + self.frames[0].shape

    @property
    def grid(self) -> Grid | None:
        """Of a case; None for pictures, whose place in the world is not known."""
        return None if self.stacked else self.frames[0].grid

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels that any frame has, in the order of the frames."""
        return tuple(dict.fromkeys(name for frame in self.frames for name in frame.channels))

    @property
    def default(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for frame in self.frames for name in frame.default))

    def dtype(self, channels: Sequence[str]) -> np.dtype[Any]:
        """The type that holds these channels of the first frame: of a window that lies wholly outside."""
        return self.frames[0].dtype(channels)

    def take(self, indices: Sequence[NDArray[np.int64]], channels: Sequence[str]) -> NDArray[Any]:
        """The voxels at the outer product of `indices`, all inside and at least one per axis; (axes…, channel).

        Frames of different types give the type that holds all that were touched.
        """
        if not self.stacked:
            return self.frames[0].take(indices, channels)
        read = {n: self.frames[n].take(indices[1:], channels) for n in np.unique(indices[0]).tolist()}
        return np.stack([read[n] for n in indices[0].tolist()])


class Scenes:
    """Finds the scene of a target."""

    def __init__(self, dset: Any, frames: Frames) -> None:
        self._dset, self._frames = dset, frames

    def of(self, target: Mapping[str, Any]) -> Scene:
        """The scene of a target with the keys that `known_keys` leaves.

        ``gids`` and ``vidid`` count before ``gid``, as in ndsampler.

        Raises
        ------
        OptionError : when the target names no source, or its frames differ in shape or contradict each other.
        UnknownNameError : for an image or video that is not there.
        """
        interpolation = target.get("interpolation", "auto")
        interpolation = "linear" if interpolation == "auto" else interpolation
        asked = target.get("channels")
        if "gids" not in target and "vidid" not in target:
            if "gid" not in target:
                raise OptionError("the target names no source", expected="'gid', 'vidid', 'gids' or 'aid'")
            return Scene((self._frames.frame(target["gid"], asked, interpolation=interpolation),), stacked=False)
        gids, vidid = self._members(target)
        if not gids:
            raise OptionError("the target names no frame", got=f"vidid {vidid!r}")
        videos = self._dset.index.videos
        frames = []
        for gid in gids:
            video = videos.get(self._frames.image(gid).get("video_id"))
            video = video or {"id": None}
            frames.append(self._frames.frame(gid, asked, video=video, interpolation=interpolation))
        layouts = {(frame.axes, frame.shape) for frame in frames}
        if len(layouts) > 1 or "t" in frames[0].axes:
            raise OptionError(
                "these images cannot be put one after the other in time",
                got=", ".join(f"{axes} {shape}" for axes, shape in sorted(layouts)),
                expected="images of one shape, without a time axis of their own",
            )
        return Scene(tuple(frames), stacked=True, vidid=vidid)

    def _members(self, target: Mapping[str, Any]) -> tuple[list[int], int | None]:
        """The images of a target with time, and their video.

        A ``time_slice`` counts in the frames of the video; ``gids`` beside it may repeat what it says, but frames
        chosen by ``gids`` are counted from 0.
        """
        vidid = target.get("vidid")
        whole: list[int] = []
        if vidid is not None:
            if vidid not in self._dset.index.videos:
                raise UnknownNameError(f"there is no video with id {vidid!r}")
            whole = list(self._dset.index.vidid_to_gids[vidid])
        if "gids" not in target:
            return whole, vidid
        gids = list(target["gids"]) if hasattr(target["gids"], "__iter__") else [target["gids"]]
        time = target.get("time_slice", target["slices"][0] if "slices" in target else None)
        if time is None or not whole:
            return gids, vidid if vidid is not None else self._video_of(gids)
        if gids in (whole, frames_in(time, whole)):
            return whole, vidid
        if (time.start or 0, time.stop, time.step or 1) == (0, len(gids), 1):
            return gids, vidid
        raise OptionError(
            "'gids' and the time slice contradict each other",
            got=f"{len(gids)} images and {time}",
            hint="give one of them; frames chosen by 'gids' are counted from 0",
        )

    def _video_of(self, gids: Sequence[int]) -> int | None:
        found = {self._frames.image(gid).get("video_id") for gid in gids}
        return found.pop() if len(found) == 1 else None


def frames_in(time: slice, gids: Sequence[int]) -> list[int]:
    """The frames that a time slice reaches; what lies outside the video is not there."""
    start, stop = time.start or 0, len(gids) if time.stop is None else time.stop
    return [gids[i] for i in range(start, stop, time.step or 1) if 0 <= i < len(gids)]
