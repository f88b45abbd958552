"""Which compressed DICOM can be decoded here: found out by decoding a small frame of each transfer syntax."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from ndvol.formats.dicom_pixels import PLUGINS

LOSSY_ERROR = 8
"""Grey values by which a lossy frame may differ; the streams that are tried differ by 2."""
_LOSSLESS_JPEG = bytes.fromhex(
    "ffd8ffc3000b080008000801011100ffc4001500010100000000000000000000000000000308ffda00080101000100009fd1"
    "11111111111111111111111111111111111111111111111111111111111113ffd900"
)
"""`ramp(8)` by process 14, selection value 1 (ISO 10918-1 H): no permissive library writes it in memory."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a frame of one transfer syntax.

    Attributes
    ----------
    name, uid : of the syntax.
    plugins : of pydicom that are installed and able.
    fault : why it cannot be decoded; empty when it was decoded right.
    tried : False where nothing here can make a frame, so that only the plug-in was looked for.
    """

    name: str
    uid: str
    plugins: tuple[str, ...]
    fault: str
    tried: bool = True


def try_decoders() -> Iterator[Trial]:
    """A trial of every transfer syntax with compressed pixels that the reader accepts."""
    lossy = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000}
    for syntax, make in _FRAMES.items():
        try:
            _check(syntax, make(), LOSSY_ERROR if syntax in lossy else 0)
            fault = ""
        except Exception as error:  # codecs raise whatever they like, import errors among it
            fault = f"{type(error).__name__}: {error}"
        yield Trial(syntax.name, str(syntax), get_decoder(syntax).available_plugins, fault)
    plugins = get_decoder(HTJ2KLossless).available_plugins
    yield Trial(
        HTJ2KLossless.name, str(HTJ2KLossless), plugins, "" if plugins else "no plug-in decodes it", tried=False
    )


def ramp(side: int) -> NDArray[np.uint8]:
    """Grey values that rise by 4 along both axes.

    >>> ramp(2).tolist()
    [[0, 4], [4, 8]]
    """
    return (4 * np.add.outer(np.arange(side), np.arange(side))).astype(np.uint8)


def _check(syntax: UID, frame: bytes, allowed: int) -> None:
    side = 8 if frame is _LOSSLESS_JPEG else 32
    dataset = _dataset(syntax, side)
    dataset.PixelData = encapsulate([frame])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoded = pixel_array(dataset, decoding_plugin=PLUGINS.get(syntax, ""))
    error = np.abs(decoded.astype(int) - ramp(side)).max()
    if error > allowed:
        raise ValueError(f"decoded to other values, {error} apart")


def _dataset(syntax: UID, side: int) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _compressed(syntax: UID, **options: Any) -> bytes:
    """A frame by pydicom's own encoders."""
    dataset = _dataset(ExplicitVRLittleEndian, 32)
    dataset.SOPInstanceUID = "1.2"
    dataset.PixelData = ramp(32).tobytes()
    dataset.compress(syntax, generate_instance_uid=False, **options)
    return bytes(get_frame(dataset.PixelData, 0, number_of_frames=1))


def _jpeg(marker: bytes) -> bytes:
    """A sequential JPEG of 8 bits: baseline (SOF0) and extended (SOF1) differ in the frame's marker alone."""
    stream = io.BytesIO()
    Image.fromarray(ramp(32)).save(stream, "JPEG", quality=95)
    return stream.getvalue().replace(b"\xff\xc0", marker, 1)


_FRAMES: dict[UID, Callable[[], bytes]] = {
    RLELossless: partial(_compressed, RLELossless, encoding_plugin="pydicom"),
    JPEGBaseline8Bit: partial(_jpeg, b"\xff\xc0"),
    JPEGExtended12Bit: partial(_jpeg, b"\xff\xc1"),
    JPEGLossless: lambda: _LOSSLESS_JPEG,
    JPEGLosslessSV1: lambda: _LOSSLESS_JPEG,
    JPEGLSLossless: partial(_compressed, JPEGLSLossless),
    JPEGLSNearLossless: partial(_compressed, JPEGLSNearLossless, jls_error=2),
    JPEG2000Lossless: partial(_compressed, JPEG2000Lossless),
    JPEG2000: partial(_compressed, JPEG2000, j2k_cr=[2]),
}
