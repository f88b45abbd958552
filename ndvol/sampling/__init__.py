"""Pure sampling: which windows to read, and why. numpy only, no I/O."""

from ndvol.sampling.cohort import Cohort, Rows, VoxelIndex
from ndvol.sampling.negative import Negative
from ndvol.sampling.positive import Positive
from ndvol.sampling.strategies import BoundStrategy, Mix, Sliding, Strategy, Uniform
from ndvol.sampling.target import Role, Target

__all__ = [
    "BoundStrategy",
    "Cohort",
    "Mix",
    "Negative",
    "Positive",
    "Role",
    "Rows",
    "Sliding",
    "Strategy",
    "Target",
    "Uniform",
    "VoxelIndex",
]
