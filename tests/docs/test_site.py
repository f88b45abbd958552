"""The site: it builds without a warning, asks no other machine for anything, and leaves out no page and no name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ndvol
from ndvol.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = DOCS / "pages"
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']([^"']+)|<link\b[^>]*\bhref=["']([^"']+)|url\(([^)]+)\)"""
)
"""What a page loads by itself."""


def test_the_api_page_has_every_public_name():
    text = (PAGES / "reference" / "api.md").read_text(encoding="utf-8")
    unsaid = {"__version__", "demo", "geometry", "toy"}  # modules of which the page shows a part
    missing = [name for name in ndvol.__all__ if f"ndvol.{name}" not in text]
    assert sorted(set(missing) - unsaid) == []


def test_every_page_is_in_the_navigation():
    nav = (DOCS / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"([\w/-]+\.md)", nav)
    assert sorted(listed) == sorted(str(page.relative_to(PAGES)) for page in PAGES.rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; warnings are errors."""
    pytest.importorskip("material", reason='mkdocs is not installed: pip install -e ".[docs]"')
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(DOCS / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_site_builds_and_stays_on_the_machine(site):
    loaded = [
        (path.name, url)
        for path in [*site.rglob("*.html"), *site.rglob("*.css")]
        for found in _LOADED.findall(path.read_text(encoding="utf-8"))
        for url in filter(None, found)
    ]
    assert loaded
    assert [(name, url) for name, url in loaded if re.match(r"['\"]?(https?:)?//", url)] == []
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert [name for name in main.list_commands(None) if f'id="{name}"' not in commands] == []
    # The text of a docstring, and of a section that follows its parameters.
    api = (site / "reference" / "api.html").read_text(encoding="utf-8")
    assert "A category is picked by weight" in api
    assert "Item i depends on the sampler" in api
