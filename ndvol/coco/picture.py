"""A whole image as something to index: read where it is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ndvol.coco.frame import Frame
from ndvol.geometry.indexing import basic_index


class IndexedImage:
    """An image that reads what is indexed: integers, slices with any step and ``...``, channels on the last axis.

    Attributes
    ----------
    shape, ndim, dtype : as of the array that ``image[:]`` gives.
    channels : names along the last axis.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame, self.channels = frame, frame.default
        self.shape = (*frame.shape, len(frame.default))
        self.ndim = len(self.shape)
        self.dtype = frame.dtype(frame.default)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        window, post = basic_index(key, self.shape)
        if not window.size:
            return np.asarray(np.empty(window.shape, self.dtype)[post])
        indices = [np.arange(a, b) for a, b in zip(window.start[:-1], window.stop[:-1], strict=True)]
        patch = self._frame.take(indices, self.channels[window.start[-1] : window.stop[-1]])
        return np.asarray(patch[post])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("an image is read from its source, so a copy is always made")
        return np.asarray(self[...], dtype)
