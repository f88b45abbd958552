"""The codes that the software can emit, read from its source: of errors, and of verdicts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import ndvol
from ndvol.verdict import STATUSES

PAIRS = {"_unsupported_pixels", "_NO_IMAGE"}
"""Names of functions and tables of ``formats.dicom_planes`` whose answers are a code and its reason."""


@cache
def codes_of(package: Path = Path(ndvol.__file__).parent) -> dict[str, list[str]]:
    """Code -> the places (``file:line``) that say it."""
    found: dict[str, list[str]] = {}
    pairs = set()
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not any(word in text for word in ("code", "Verdict", *STATUSES)):
            continue
        tree = ast.parse(text)
        takes = _takers(tree) | {"Verdict": 2}
        for node in ast.walk(tree):
            if _name_of(node) in PAIRS:
                pairs.add(_name_of(node))
                said = [text for inner in ast.walk(node) if isinstance(inner, ast.Tuple) for text in _first(inner)]
            else:
                said = list(_codes_in(node, takes))
            for code in said:
                if len(code) == 1:
                    continue  # a struct format
                found.setdefault(code, []).append(f"{path.relative_to(package)}:{node.lineno}")
    assert pairs == PAIRS, "what was read for its pairs has another name now"
    return found


def _takers(tree: ast.AST) -> dict[str, int]:
    """Functions of a module, and classes with fields, that take a `code`: its position."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [a.arg for a in node.args.args if a.arg not in ("self", "cls")]
        elif isinstance(node, ast.ClassDef):
            names = [a.target.id for a in node.body if isinstance(a, ast.AnnAssign) and isinstance(a.target, ast.Name)]
        else:
            continue
        if "code" in names:
            found[node.name] = names.index("code")
    return found


def _codes_in(node: ast.AST, takes: dict[str, int]) -> Iterator[str]:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        yield from (text for k in node.keywords if k.arg == "code" for text in _texts(k.value))
        if name in takes and len(node.args) > takes[name]:
            yield from _texts(node.args[takes[name]])
    elif isinstance(node, ast.FunctionDef):
        pairs = zip(node.args.args[::-1], node.args.defaults[::-1], strict=False)
        keywords = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        yield from (text for a, d in (*pairs, *keywords) if a.arg == "code" and d for text in _texts(d))
    elif isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "code" and node.value:
        yield from _texts(node.value)
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if getattr(target, "id", "") == "code":
                yield from _texts(node.value)
            elif isinstance(target, ast.Tuple):
                at = [getattr(t, "id", "") for t in target.elts]
                values = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
                for value in values if "code" in at else ():
                    yield from _texts(value.elts[at.index("code")]) if isinstance(value, ast.Tuple) else ()
    elif isinstance(node, ast.Tuple) and len(node.elts) == 3 and set(_first(node)) & set(STATUSES):
        # Status, code and reason.
        yield from _texts(node.elts[1])


def _name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Assign):
        return getattr(node.targets[0], "id", "")
    return node.name if isinstance(node, ast.FunctionDef) else ""


def _first(node: ast.Tuple) -> list[str]:
    return list(_texts(node.elts[0])) if node.elts else []


def _texts(node: ast.AST) -> Iterator[str]:
    """The texts that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))
