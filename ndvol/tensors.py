"""Patches as tensors (channels, \\*spatial), read straight into the tensor of their batch where that is the same.

torch is imported here, as in `ndvol.torch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ndvol.batches import rows
from ndvol.geometry.grid import SPATIAL_AXES
from ndvol.reading import Wanted


class BatchTensor:
    """Some volumes' patches of every target of a batch, in one tensor (batch, channels, \\*spatial).

    Parameters
    ----------
    axes : of the windows.
    kind, names : ``images`` or ``labels``, and which of them: channels one after another.
    dtype : of the tensor.
    """

    def __init__(self, axes: str, kind: str, names: Sequence[str], dtype: torch.dtype) -> None:
        self._names, self._dtype = [f"{kind}/{name}" for name in names], dtype
        self._ndim = sum(axis in SPATIAL_AXES for axis in axes)
        self._whole: torch.Tensor | None = None

    def arrays(self, wanted: Sequence[Mapping[str, Wanted]]) -> list[dict[str, NDArray[Any]]]:
        """Per target the arrays to read into, a `Room`; none where targets differ, or numpy casts otherwise."""
        asked = [[own[name] for name in self._names if name in own] for own in wanted]
        shapes = [patch.shape for patch in asked[0]] if asked else []
        if len(shapes) != len(self._names) or any([patch.shape for patch in own] != shapes for own in asked):
            return [{} for _ in wanted]
        spatial = {shape[-self._ndim :] for shape in shapes}
        types = {patch.dtype for own in asked for patch in own}
        if len(spatial) != 1 or not all(_casts_alike(dtype, self._dtype) for dtype in types):
            return [{} for _ in wanted]
        ends = list(accumulate((prod(shape[: -self._ndim]) for shape in shapes), initial=0))
        self._whole = rows(len(wanted), (ends[-1], *spatial.pop()), self._dtype)
        array = self._whole.numpy()
        parts = list(zip(self._names, shapes, ends, ends[1:], strict=False))
        return [{name: own[a:b].reshape(shape) for name, shape, a, b in parts} for own in array]

    def item(self, number: int, patches: Sequence[NDArray[Any]]) -> torch.Tensor:
        """The tensor (channels, \\*spatial) of target `number`, whose patches have been read."""
        return channels(patches, self._ndim, self._dtype) if self._whole is None else self._whole[number]


def channels(patches: Sequence[NDArray[Any]], ndim: int, dtype: torch.dtype) -> torch.Tensor:
    """Patches whose last `ndim` axes are spatial as one tensor (channels, \\*spatial)."""
    tensors = [torch.from_numpy(_signed(p).reshape(-1, *p.shape[-ndim:])).to(dtype) for p in patches]
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _signed(patch: NDArray[Any]) -> NDArray[Any]:
    """`patch` in a type that torch computes with: of the unsigned integers that is uint8 alone."""
    if patch.dtype.kind == "u" and patch.dtype.itemsize > 1:
        return patch.astype(np.promote_types(patch.dtype, np.int8))
    return patch


def _casts_alike(source: np.dtype[Any], target: torch.dtype) -> bool:
    """True when numpy casts to the type as torch does: nothing overflows, and what is rounded is so once."""
    try:
        kept = torch.empty(0, dtype=target).numpy().dtype
    except TypeError:  # bfloat16
        return False
    return np.can_cast(source, kept) or (kept.kind == "f" and source.kind in "iu" and source.itemsize <= kept.itemsize)
