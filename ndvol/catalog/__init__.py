"""The table of cases: kwcoco in and out."""

from ndvol.catalog.catalog import CaseRecord, Catalog, Objects

__all__ = ["CaseRecord", "Catalog", "Objects"]
