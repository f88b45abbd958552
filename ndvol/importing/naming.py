"""What the values of labels are called: names of sources become categories by the user's table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats.layers import listing
from ndvol.importing.options import ImportOptions, categories_of_names, folded
from ndvol.importing.privacy import Privacy
from ndvol.label_index import label_values


@dataclass(frozen=True, slots=True)
class Named:
    """The names of a label volume's values.

    Attributes
    ----------
    categories : value -> category name.
    sources : value -> names in the source, where they are others and may be said.
    warnings : names that the table does not have.
    """

    categories: Mapping[int, str]
    sources: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def name_structures(
    names: Mapping[int, str], options: ImportOptions, originals: Mapping[int, str] | None = None
) -> Named:
    """The categories of structures that a source names; see `ImportOptions.categories`.

    Structures of one category keep values of their own: none is lost in another, nor one object with it.

    Parameters
    ----------
    names : value -> name, cleaned.
    originals : value -> name as the source has it, where it is another.

    >>> table = ({"name": "tumor", "names": ["GTV 1"]},)
    >>> named = name_structures({1: "gtv 1", 2: "Cord"}, ImportOptions(categories=table))
    >>> named.categories, named.sources, named.warnings
    ({1: 'tumor', 2: 'Cord'}, {1: ('gtv 1',)}, ('the category table does not name Cord',))
    """
    privacy = Privacy.of(options)
    table = categories_of_names(options.categories)
    unknown = [name for name in names.values() if folded(name) not in table] if table else []
    categories = {value: privacy.structure(table.get(folded(name), name)) for value, name in names.items()}
    told = {**names, **(originals or {})}
    sources = {value: (told[value],) for value, category in categories.items() if told[value] != category}
    warning = f"the category table does not name {listing(list(dict.fromkeys(unknown)))}"
    return Named(categories, {} if privacy.strict else sources, (warning,) if unknown else ())


def name_values(label: str, array: NDArray[Any], table: Mapping[int, str]) -> dict[int, str]:
    """Value -> category name of a label map; see `ImportOptions.categories`.

    >>> import numpy as np
    >>> name_values("mask", np.array([0, 1]), {}), name_values("seg", np.array([0, 2, 5]), {})
    ({1: 'mask'}, {2: 'seg-2', 5: 'seg-5'})
    """
    found = label_values(array)
    if table:
        check_named(label, found, table)
        return dict(table)
    if found in ([], [1]):
        return {1: label}
    return {v: f"{label}-{v}" for v in found}


def check_named(label: str, found: Iterable[int], names: Mapping[int, str]) -> None:
    """Raise when values of a label map have no name among those that the table, or the file itself, gives."""
    if unnamed := sorted(set(found) - set(names)):
        raise SourceError(
            f"label {label!r} holds values that the category table or the file does not name",
            got=unnamed[:10],
            expected=f"of {sorted(names)[:20]}",
            hint="add them to the table, or to the segments of the file",
            code="unnamed-values",
        )
