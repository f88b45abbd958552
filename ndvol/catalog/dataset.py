"""kwcoco's own data set objects, for the parts of ndvol that hand them to the user."""

from __future__ import annotations

import os
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import kwcoco
from delayed_image import FusedChannelSpec

from ndvol.catalog.coco import find_catalog
from ndvol.errors import CatalogError


def coerce_dataset(data: Any) -> Any:
    """A `kwcoco.CocoDataset` of a bundle folder, a kwcoco file, a dictionary, or what kwcoco itself understands.

    Raises
    ------
    CatalogError : when it is nothing of the kind.
    """
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        data = str(find_catalog(path)) if path.exists() else str(data)
    try:
        return kwcoco.CocoDataset(data) if isinstance(data, dict) else kwcoco.CocoDataset.coerce(data)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise CatalogError(
            "this is no kwcoco data set", got=repr(error), hint="give a path or a CocoDataset"
        ) from error


def demo_dataset(key: str, **options: Any) -> Any:
    """One of kwcoco's toy data sets (``shapes8``, ``vidshapes2-frames5``, ``vidshapes1-msi`` …).

    kwcoco writes its pictures to the user's cache folder, once.
    """
    with warnings.catch_warnings(), redirect_stdout(StringIO()):  # it shows its progress, whatever `verbose` says
        warnings.simplefilter("ignore")  # it would prefer GDAL and compiled extensions
        return kwcoco.CocoDataset.demo(key, **{"verbose": 0, **options})


def classes_of(dset: Any, *, keypoints: bool = False) -> Any:
    """The `kwcoco.CategoryTree` of a data set, or of its keypoints; empty where it says nothing of categories."""
    if "categories" not in dset.dataset:
        return kwcoco.CategoryTree.from_mutex([])
    return dset.keypoint_categories() if keypoints else dset.object_categories()


def channel_names(spec: Any) -> tuple[str, ...]:
    """The channels of a kwcoco specification, one by one.

    >>> channel_names("r|g|b"), channel_names("B1|flow:2"), channel_names(["r", "b"])
    (('r', 'g', 'b'), ('B1', 'flow.0', 'flow.1'), ('r', 'b'))
    """
    text = "|".join(map(str, spec)) if isinstance(spec, list | tuple) else str(getattr(spec, "spec", spec))
    return tuple(FusedChannelSpec.coerce(text.replace(",", "|")).as_list())
