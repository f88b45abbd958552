"""Scores and decisions over a category tree: softmax that respects it, and the finest category that is sure enough.

Pure numpy; the class axis is in the order of `CategoryTree.names`. For training, the same chain rule over torch tensors
is three lines; here it serves evaluation and rules over predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.categories import CategoryTree
from ndvol.errors import CategoryError, OptionError

Criterion = Literal["gini", "entropy", "prob"]
Floats = NDArray[np.floating]


def conditional_log_softmax(tree: CategoryTree, scores: ArrayLike, axis: int = -1) -> Floats:
    """Log-probability of each category given its parent: a softmax over every group of siblings.

    Parameters
    ----------
    scores : any shape; `axis` has one entry per category.

    >>> tree = CategoryTree.from_coco([{"name": "lesion"}, {"name": "cyst", "supercategory": "lesion"}])
    >>> conditional_log_softmax(tree, [3.0, -1.0]).tolist()
    [0.0, 0.0]
    """
    values = _last(tree, scores, axis)
    out = np.empty_like(values)
    for group in sibling_groups(tree):
        part = values[..., group]
        top = part.max(-1, keepdims=True)
        # A group of which nothing is possible (all -inf) has no distribution: nan would hide where it comes from.
        shifted = part - np.where(np.isfinite(top), top, 0)
        with np.errstate(divide="ignore"):
            out[..., group] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return np.moveaxis(out, -1, axis)


def hierarchical_log_softmax(tree: CategoryTree, scores: ArrayLike, axis: int = -1) -> Floats:
    """Log-probability of each category: its conditional one times those of all its ancestors.

    The children of a category sum to it, and the roots sum to 1.

    >>> tree = CategoryTree.from_coco([{"name": "a"}, {"name": "b", "supercategory": "a"}, {"name": "c"}])
    >>> np.exp(hierarchical_log_softmax(tree, [0.0, 5.0, 0.0])).round(3).tolist()
    [0.5, 0.5, 0.5]
    """
    values = np.moveaxis(conditional_log_softmax(tree, scores, axis), axis, -1)
    for node, parent in enumerate(parents_of(tree)):
        if parent is not None:  # pre-order: the parent's own sum is complete
            values[..., node] += values[..., parent]
    return np.moveaxis(values, -1, axis)


def hierarchical_softmax(tree: CategoryTree, scores: ArrayLike, axis: int = -1) -> Floats:
    """`hierarchical_log_softmax` as probabilities."""
    return np.exp(hierarchical_log_softmax(tree, scores, axis))


def decision(
    tree: CategoryTree,
    probabilities: ArrayLike,
    axis: int = -1,
    *,
    thresh: float = 0.5,
    criterion: Criterion = "gini",
    ignore: Sequence[str] = (),
    always_refine: Sequence[str] = (),
) -> tuple[NDArray[np.intp], Floats]:
    """The finest category that each distribution is sure enough of, from the roots downwards (ndsampler's rule).

    At each level the most probable sibling is taken. With ``prob`` its best child replaces it when that child's
    probability exceeds `thresh`. With ``gini`` or ``entropy`` its best child replaces it when the impurity of the
    siblings with this one replaced by its children is lower than it would be for children of equal probability, by
    more than the share `thresh`; an only child always replaces its parent.

    Parameters
    ----------
    probabilities : of each category, parents holding the sum of their children; `axis` has one entry per category.
    ignore : categories that may not be chosen, as if the tree did not hold them (nor what is below them).
    always_refine : categories that are never the answer when they have children, for ``gini`` and ``entropy``.

    Returns
    -------
    category_index, probability : of the shape of `probabilities` without `axis`.

    Raises
    ------
    CategoryError : when all roots are ignored.
    OptionError : for another criterion.

    >>> tree = CategoryTree.from_coco([
    ...     {"name": "lesion"}, {"name": "cyst", "supercategory": "lesion"},
    ...     {"name": "tumor", "supercategory": "lesion"}, {"name": "organ"}])
    >>> chosen, sure = decision(tree, [[0.9, 0.85, 0.05, 0.1], [0.9, 0.45, 0.45, 0.1]])
    >>> [tree.names[i] for i in chosen], sure.tolist()
    (['cyst', 'lesion'], [0.85, 0.9])
    """
    if criterion not in ("gini", "entropy", "prob"):
        raise OptionError("no such criterion", got=criterion, expected="gini, entropy or prob")
    values = _last(tree, probabilities, axis)
    flat = values.reshape(-1, len(tree))
    left_out = {i for name in ignore for i in tree.subtree(name)}
    refined = {tree.index(name) for name in always_refine}
    children = [[c for c in group if c not in left_out] for group in children_of(tree)]
    roots = [i for i, parent in enumerate(parents_of(tree)) if parent is None and i not in left_out]
    if not roots:
        raise CategoryError("every top category is ignored, so there is nothing to choose", got=list(ignore))
    siblings = dict.fromkeys(roots, roots) | {c: group for group in children for c in group}
    chosen = np.array(roots)[flat[:, roots].argmax(1)]
    for node in range(len(tree)):
        # Pre-order: whoever stands at this node now has come from its parent.
        at = np.flatnonzero(chosen == node)
        if not len(at) or not (below := children[node]):
            continue
        others = [s for s in siblings[node] if s != node]
        best = np.array(below)[flat[at][:, below].argmax(1)]
        if criterion == "prob":
            finer = (flat[at, node] > thresh) & (flat[at, best] > thresh)
        elif len(below) == 1 or node in refined:
            finer = np.ones(len(at), bool)
        else:
            finer = _simplicity(flat[at], node, others, below, criterion) > thresh
        chosen[at[finer]] = best[finer]
    shape = values.shape[:-1]
    return chosen.reshape(shape), flat[np.arange(len(flat)), chosen].reshape(shape)


def children_of(tree: CategoryTree) -> list[list[int]]:
    """The category_index of each category's children, in pre-order."""
    found: list[list[int]] = [[] for _ in range(len(tree))]
    for node, parent in enumerate(parents_of(tree)):
        if parent is not None:
            found[parent].append(node)
    return found


def parents_of(tree: CategoryTree) -> list[int | None]:
    """The category_index of each category's parent; None for a root."""
    open_nodes: list[int] = []
    found: list[int | None] = []
    for node in range(len(tree)):
        while open_nodes and node >= tree.ends[open_nodes[-1]]:
            open_nodes.pop()
        found.append(open_nodes[-1] if open_nodes else None)
        open_nodes.append(node)
    return found


def sibling_groups(tree: CategoryTree) -> list[list[int]]:
    """The roots, and the children of each category that has some: what excludes each other."""
    roots = [i for i, parent in enumerate(parents_of(tree)) if parent is None]
    return [group for group in (roots, *children_of(tree)) if group]


def _simplicity(flat: Floats, node: int, others: list[int], below: list[int], criterion: str) -> Floats:
    """1 - impurity / worst impurity of the siblings `others` beside the children `below` of `node`."""
    found = flat[:, [*others, *below]]
    even = np.repeat(flat[:, [node]] / len(below), len(below), axis=1)
    worst = np.concatenate([flat[:, others], even], axis=1)
    floor = 1e-30  # a distribution without any impurity at worst is as impure as can be
    simplicity: Floats = 1 - _impurity(found, criterion) / (_impurity(worst, criterion) + floor)
    return simplicity


def _impurity(values: Floats, criterion: str) -> Floats:
    if criterion == "gini":
        return np.asarray(1 - (values**2).sum(1))
    logs = np.log2(values, out=np.zeros_like(values), where=values > 0)
    return np.asarray(-(values * logs).sum(1))


def _last(tree: CategoryTree, scores: ArrayLike, axis: int) -> Floats:
    """The scores as floats with the class axis last."""
    values = np.asarray(scores)
    values = values.astype(np.float64) if values.dtype.kind != "f" else values
    if values.ndim == 0 or values.shape[axis] != len(tree):
        raise OptionError("the class axis needs one entry per category", got=values.shape, expected=len(tree))
    return np.moveaxis(values, axis, -1)
