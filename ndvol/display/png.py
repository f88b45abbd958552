"""Pictures inside a page: PNG files as data URIs."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png_uri(picture: NDArray[np.uint8]) -> str:
    """A picture of (y, x) or (y, x, 3) as the text of a ``data:`` URI; the same pixels make the same text.

    >>> png_uri(np.zeros((2, 3), np.uint8))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode("ascii")
