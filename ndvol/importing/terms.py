"""Words that say what was measured and nothing about whom: DICOM's defined terms, and names of channels."""

from __future__ import annotations

import re

_MODALITIES = """
AR ASMT AU BDUS BI BMD CR CT DG DMS DX EPS ES FA FS GM HC HD IO IVOCT IVUS KER LEN LS MG MR NM OAM OCT OP OPM OPT
OPTBSV OPTENF OPV OT PA POS PT PX REG RF RG RTDOSE RTIMAGE RTPLAN RTSTRUCT RWV SC SEG SM SR ST TG US VA VI XA XC
"""
MODALITIES = frozenset(_MODALITIES.split())
"""Defined terms of Modality (PS3.3 C.7.3.1.1.1), with SC for secondary capture."""
_PIXELS = """
MONOCHROME1 MONOCHROME2 RGB YBR_FULL YBR_FULL_422 YBR_PARTIAL_420 YBR_ICT YBR_RCT PALETTE MINISBLACK MINISWHITE YCBCR
SEPARATED CIELAB YES NO
"""
TERMS = MODALITIES | frozenset(_PIXELS.split())
"""With those of PhotometricInterpretation in DICOM and TIFF, and of BurnedInAnnotation."""
_UNITS = """
HU US OD HU_MOD MGML Z_EFF ED EDW PCT BQML CNTS NONE CM2 CM2ML PCNT CPS PROPCNTS PROPCPS MGMINML UMOLMINML MLMING MLG
1CM UMOLML GML STDDEV SUV
"""
UNITS = frozenset(_UNITS.split())
"""Defined terms of RescaleType (PS3.3 C.11.1.1.2) and of Units of PET (C.8.9.1.1.3)."""
CHANNELS = re.compile(
    r"(channel-\d{1,4}|CT|MRI?|PET|SUV|T1|T1w|T1c|T1ce|T1gd|T1n|T2|T2w|T2f|FLAIR|ADC|DWI|PD|image"
    r"|PDw|T2starw|T1map|T2map|bold|sbref|asl)",
    re.IGNORECASE,
)
"""Names of images of several modalities or sequences."""
LABEL_VOLUMES = re.compile(r"(segmentation|structures)(-\d+)?")
"""Names that ndvol's own readers give to volumes of structures."""
_BURNED_IN = "US IVUS ES XC GM OP OT SC XA RF DG SM"
BURNED_IN_MODALITIES = frozenset(_BURNED_IN.split())
"""Modalities whose pictures often hold text: ultrasound, endoscopy, photographs, captured screens, fluoroscopy."""
