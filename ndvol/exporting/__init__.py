"""Bundles out, in forms that other programs read."""

from ndvol.exporting.slices import export_slices

__all__ = ["export_slices"]
