"""Codecs, tried: those of a bundle, written and read back, and those of compressed DICOM."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ndvol.doctor.findings import Finding, judged
from ndvol.formats.dicom_decoders import try_decoders
from ndvol.geometry import Grid, Window
from ndvol.hdf5 import get_dataset, open_once
from ndvol.store import CODECS, CaseWriter, Codec, forget, open_case, verify_file


def check_codecs() -> Iterator[Finding]:
    """Each codec of an import, by a small file in the system's folder for such."""
    rng = np.random.default_rng(0)
    array = (rng.normal(0, 18, (8, 40, 40)) + np.arange(40)).astype(np.int16)
    for name, codecs in CODECS.items():
        for codec in codecs:
            title = f"{name}: {codec.compressor}" + (f", {codec.shuffle} shuffle" if codec.compressor != "none" else "")
            with tempfile.TemporaryDirectory(prefix="ndvol-doctor-") as folder:
                fault = _fault(Path(folder, "codec.h5"), codec, array)
            advice = "pip install --force-reinstall numcodecs hdf5plugin h5py" if fault else ""
            yield judged("codecs", title, f"no: {fault}" if fault else "works", advice, "problem")


def _fault(path: Path, codec: Codec, array: NDArray[np.int16]) -> str:
    """Why `array` does not come back through `codec`, read by ndvol and by HDF5's own filters."""
    try:
        with CaseWriter(path, case="codec", codec=codec) as writer:
            writer.add_image("image", array, Grid.regular("zyx", array.shape))
            writer.set_provenance({})
        ours = open_case(path).images["image"].read(Window.full(array.shape))
        with open_once(path) as file:
            theirs = get_dataset(file, "images/image/0")[...]
        if not (np.array_equal(ours, array) and np.array_equal(theirs, array)) or verify_file(path):
            return "other voxels than were written"
    except Exception as error:  # whether a codec works is the question; they fail in any way
        return f"{type(error).__name__}: {error}"
    finally:
        forget(path)
    return ""


def check_decoders() -> Iterator[Finding]:
    """Each transfer syntax of compressed DICOM; series of one that cannot be decoded are refused, others are not."""
    for trial in try_decoders():
        plugins = ", ".join(trial.plugins)
        value = f"no: {trial.fault}" if trial.fault else f"{'works' if trial.tried else 'not tried'} ({plugins})"
        advice = "pip install pylibjpeg pylibjpeg-openjpeg pyjpegls python-gdcm" if trial.fault else ""
        yield judged("DICOM", trial.name, value, advice)
