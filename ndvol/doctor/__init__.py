"""`ndvol doctor`: what of this machine works for ndvol, and what to change."""
