"""ndsampler's dialect: `CocoSampler` on kwcoco pictures, videos and ndvol bundles."""

from ndvol.coco.regions import CocoRegions, MissingNegativePool
from ndvol.coco.sampler import CocoSampler

__all__ = ["CocoRegions", "CocoSampler", "MissingNegativePool"]
