"""Bundles out, in forms that other programs read."""

from ndvol.exporting.nifti import export_nifti, export_nnunet
from ndvol.exporting.nrrd import export_nrrd
from ndvol.exporting.patches import export_patches
from ndvol.exporting.portable import export_portable
from ndvol.exporting.seg import export_seg, save_seg
from ndvol.exporting.slices import export_slices

__all__ = [
    "export_nifti",
    "export_nnunet",
    "export_nrrd",
    "export_patches",
    "export_portable",
    "export_seg",
    "export_slices",
    "save_seg",
]
