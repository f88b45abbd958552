"""The frames of an enhanced multi-frame object as planes (PS3.3 C.7.6.16, functional groups)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom

from ndvol.errors import SourceError
from ndvol.formats.dicom_deflate import open_dicom
from ndvol.formats.dicom_elements import plain, real_world
from ndvol.formats.dicom_headers import Header
from ndvol.formats.faults import reason

_GROUPS = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_MACROS: dict[str, dict[str, str]] = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {k: k for k in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")},
    "PixelValueTransformationSequence": {k: k for k in ("RescaleSlope", "RescaleIntercept", "RescaleType")},
    "FrameContentSequence": {
        "StackID": "StackID",
        "TemporalPositionIndex": "TemporalPositionIdentifier",
        "FrameAcquisitionNumber": "AcquisitionNumber",
        "FrameAcquisitionDateTime": "AcquisitionTime",
        "FrameReferenceDateTime": "ContentTime",
    },
    "TemporalPositionSequence": {"TemporalPositionTimeOffset": "FrameReferenceTime"},
    "CardiacSynchronizationSequence": {
        "NominalCardiacTriggerDelayTime": "TriggerTime",
        "NominalPercentageOfCardiacPhase": "NominalPercentageOfCardiacPhase",
    },
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRDiffusionSequence": {"DiffusionBValue": "DiffusionBValue"},
    "MRModifierSequence": {"InversionTimes": "InversionTime"},
    "MRTimingAndRelatedParametersSequence": {"RepetitionTime": "RepetitionTime", "FlipAngle": "FlipAngle"},
    "CTReconstructionSequence": {"ConvolutionKernel": "ConvolutionKernel"},
    "CTXRayDetailsSequence": {"KVP": "KVP"},
}
"""Macro -> its attribute -> the attribute of single-frame objects that says the same."""
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_GEOMETRY = frozenset({"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"})


def frames(root: Path, header: Header) -> tuple[Header, ...]:
    """One header per frame: the file's values under those of the shared and the frame's own functional groups.

    Raises
    ------
    SourceError : code ``multi-frame`` when the groups cannot be read or are not one per frame.
    """
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            with open_dicom(root / header.path, header.path) as source:
                dataset = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=list(_GROUPS), force=True)
            shared: dict[str, Any] = {}
            for item in dataset.get(_GROUPS[0]) or []:
                shared |= dict(_values(item))
            own = [dict(_values(item)) for item in dataset.get(_GROUPS[1]) or []]
    except SourceError:
        raise
    except Exception as error:  # pydicom raises whatever the bytes provoke
        raise _refused(header, reason(error, root)) from error
    count = header.integer("NumberOfFrames", 1)
    if len(own) != count:
        raise _refused(header, f"{len(own)} items for {count} frames")
    # What a frame states in a macro must not be mixed with what the file says of all frames at once.
    stated = _GEOMETRY.union(*map(set, (shared, *own)))
    base = {k: None if k in stated else v for k, v in header.values.items()}
    first = (header.integer("InstanceNumber", 1) - 1) * count + 1
    return tuple(
        replace(header, values={**base, **shared, **values, "InstanceNumber": first + k}, frame=k)
        for k, values in enumerate(own)
    )


def _values(item: pydicom.Dataset) -> Iterator[tuple[str, Any]]:
    """The values of the functional groups that ndvol knows; those that are absent or empty are left out."""
    for sequence, names in _MACROS.items():
        for macro in item.get(sequence) or []:
            for keyword, name in names.items():
                if (value := plain(macro, keyword)) is not None:
                    # Times of functional groups are whole dates with time.
                    yield name, str(value) if name in ("AcquisitionTime", "ContentTime") else value
    for diffusion in item.get("MRDiffusionSequence") or []:
        for gradient in diffusion.get("DiffusionGradientDirectionSequence") or []:
            yield "DiffusionGradientOrientation", plain(gradient, "DiffusionGradientOrientation")
    if (mapping := real_world(item)) is not None:
        yield "RealWorldValue", mapping
    for sequence in _FRAME_TYPES:
        for macro in item.get(sequence) or []:
            kind = plain(macro, "FrameType")
            kind = kind if isinstance(kind, tuple) else (kind,)
            yield "ImageType", tuple(str(v) for v in (*kind, plain(macro, "ComplexImageComponent")) if v is not None)


def _refused(header: Header, got: object) -> SourceError:
    return SourceError(
        f"the functional groups of {header.path} do not place its frames",
        got=got,
        expected="one item of PerFrameFunctionalGroupsSequence per frame",
        hint="export the series again, or convert it to single frames",
        code="multi-frame",
    )
