"""Importing: plan, then run. The plan is data; the run writes one file per case and the catalogue last."""

from ndvol.importing.options import ImportOptions, read_categories
from ndvol.importing.plan import ImportPlan
from ndvol.importing.planning import plan_import
from ndvol.importing.run import import_tree, run_import

__all__ = ["ImportOptions", "ImportPlan", "import_tree", "plan_import", "read_categories", "run_import"]
