"""``python -m ndvol`` is the command ``ndvol``."""

from ndvol.cli import main

main(prog_name="ndvol")
