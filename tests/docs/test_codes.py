"""The page of codes lists what the software can emit, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from codes import codes_of

from ndvol import commands

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pages" / "reference" / "codes.md"


def listed(kind):
    return re.findall(rf"^\| {kind} \|", PAGE.read_text(encoding="utf-8"), re.M)


def test_every_code_is_on_the_page():
    emitted = codes_of()
    assert {code: places for code, places in emitted.items() if code not in listed(r"`([\w-]+)`")} == {}


def test_the_page_lists_no_other_code():
    codes = listed(r"`([\w-]+)`")
    assert sorted(set(codes) - set(codes_of())) == []
    assert len(codes) == len(set(codes))


def test_codes_that_the_tests_assert_are_found_by_the_walk():
    """An independent list: what the other tests compare the code of an error or a verdict with."""
    asserted = set()
    invented = ROOT / "tests" / "test_errors.py"
    for path in {*(ROOT / "tests").rglob("test_*.py")} - {invented}:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if ".code" in text else ():
            if isinstance(node, ast.Compare) and getattr(node.left, "attr", "") == "code":
                asserted |= {c.value for c in node.comparators if isinstance(c, ast.Constant)}
    assert len(asserted) > 20
    assert sorted(code for code in asserted if isinstance(code, str) and code not in codes_of()) == []


def test_exit_codes():
    named = re.findall(r"(\d+) [a-z]", commands.EXIT_CODES)
    assert listed(r"(\d+)") == named
    assert {str(v) for k, v in vars(commands).items() if k.startswith("EXIT_") and isinstance(v, int)} < set(named)
