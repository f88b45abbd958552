"""The table of cases: kwcoco in and out."""

from ndvol.catalog.cache import cached_columns
from ndvol.catalog.catalog import CaseRecord, Catalog, Objects
from ndvol.catalog.coco import CATALOG_NAME, coco_from_records, find_catalog, load_coco
from ndvol.catalog.records import BOXES, RecordTable, case_of_image, columns_from_coco
from ndvol.catalog.summary import case_row, category_counts, shown_row, tree_counts

__all__ = [
    "BOXES",
    "CATALOG_NAME",
    "CaseRecord",
    "Catalog",
    "Objects",
    "RecordTable",
    "cached_columns",
    "case_of_image",
    "case_row",
    "category_counts",
    "coco_from_records",
    "columns_from_coco",
    "find_catalog",
    "load_coco",
    "shown_row",
    "tree_counts",
]
