"""The table of cases: kwcoco in and out."""

from ndvol.catalog.catalog import CaseRecord, Catalog, Objects
from ndvol.catalog.coco import BOXES, CATALOG_NAME, coco_from_records, find_catalog, load_coco, records_from_coco

__all__ = [
    "BOXES",
    "CATALOG_NAME",
    "CaseRecord",
    "Catalog",
    "Objects",
    "coco_from_records",
    "find_catalog",
    "load_coco",
    "records_from_coco",
]
