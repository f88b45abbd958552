"""Pure sampling: which windows to read, and why. numpy only, no I/O."""

from ndvol.sampling.cohort import CaseSource, Cohort, ObjectRows, Rows, VoxelIndex, examined_categories
from ndvol.sampling.negative import Negative
from ndvol.sampling.objects import window_about
from ndvol.sampling.positive import Positive
from ndvol.sampling.sample import ObjectInWindow, Reading, Sample
from ndvol.sampling.schedule import Schedule
from ndvol.sampling.strategies import BoundStrategy, Mix, Sliding, Strategy, Uniform
from ndvol.sampling.target import Role, Target

__all__ = [
    "BoundStrategy",
    "CaseSource",
    "Cohort",
    "Mix",
    "Negative",
    "ObjectInWindow",
    "ObjectRows",
    "Positive",
    "Reading",
    "Role",
    "Rows",
    "Sample",
    "Schedule",
    "Sliding",
    "Strategy",
    "Target",
    "Uniform",
    "VoxelIndex",
    "examined_categories",
    "window_about",
]
