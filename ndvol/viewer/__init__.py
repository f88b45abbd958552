"""`ndvol view`: a page on 127.0.0.1 that shows the cases of a bundle and reads only the chunks it shows."""

from ndvol.viewer.server import ViewServer

__all__ = ["ViewServer"]
