"""Backends: volumes read from their sources in place, or from a conversion that is made once and named by content."""

from ndvol.backends.opened import open_picture, picture_origin
from ndvol.backends.origin import Origin
from ndvol.backends.stored import Backend, backend_of, open_volume

__all__ = ["Backend", "Origin", "backend_of", "open_picture", "open_volume", "picture_origin"]
