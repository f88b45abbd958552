"""The patches of several targets: what windows of one case share is read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndvol.opened import OpenCase
from ndvol.sampling import Reading, Target


class Wanted(NamedTuple):
    """A patch before it is read.

    Attributes
    ----------
    shape : of the patch.
    dtype : of its volume.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


Room = Callable[[Sequence[Mapping[str, Wanted]]], Sequence[Mapping[str, NDArray[Any]]]]
"""Where patches go: of what several targets want, by ``images/<name>`` or ``labels/<name>``, the arrays to read into.

Values are cast to the type of the array. A patch for which there is none gets an array of its own.
"""


def read_patches(
    targets: Sequence[Target], cases: Sequence[OpenCase], reading: Reading, room: Room | None
) -> list[dict[str, NDArray[Any]]]:
    """Of each target, which is in the case at its position, all patches by ``images/<name>`` or ``labels/<name>``."""
    volumes = [case.at(target.level).volumes for case, target in zip(cases, targets, strict=True)]
    windows = [
        {name: placed.window(target.window) for name, placed in own.items()}
        for own, target in zip(volumes, targets, strict=True)
    ]
    outs: Sequence[Mapping[str, NDArray[Any]]] = [{} for _ in targets]
    if room is not None:
        wanted = [
            {name: Wanted(window.shape, own[name].volume.dtype) for name, window in asked.items()}
            for own, asked in zip(volumes, windows, strict=True)
        ]
        outs = room(wanted)
    patches: list[dict[str, NDArray[Any]]] = [{} for _ in targets]
    for place in dict.fromkeys((target.case, target.level) for target in targets):
        numbers = [k for k, target in enumerate(targets) if (target.case, target.level) == place]
        for name, placed in volumes[numbers[0]].items():
            found = placed.volume.read_many(
                [windows[k][name] for k in numbers],
                outs=[outs[k].get(name) for k in numbers],
                fill_value=reading.fill_value if name.startswith("images/") else 0,
                pad_mode=reading.pad_mode,
            )
            for k, patch in zip(numbers, found, strict=True):
                patches[k][name] = patch
    return patches
