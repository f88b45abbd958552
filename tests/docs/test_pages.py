"""Every code block of the pages and of the README runs, in order, and prints what the page shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from blocks import Block, blocks_of
from folders import Shelf
from PIL import Image
from running import Page, missing_from

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "pages"
PICTURES = {
    "first/dicom.md": ("patches.png", "dicom-patches.png"),
    "first/nifti.md": ("sheet.png", "nifti-sheet.png"),
    "first/ndsampler.md": ("patch.png", "ndsampler-patch.png"),
    "first/pytorch.md": ("batch.png", "pytorch-batch.png"),
}
"""By page: the picture that its blocks make, and the one that it shows."""
PACKAGES = {"torch": "torch", "monai": "monai", "torchio": "torchio", "ndvol.nnunet": "nnunetv2"} | {
    name: name for name in ("lightning", "dask", "xarray", "zarr")
}
"""What a block names -> the package that it needs beyond the core."""


@dataclass(frozen=True)
class Setting:
    """What a page, or a section of the README, takes for granted.

    Attributes
    ----------
    folders : that are there, see `folders`.
    code : Python that has run before the first Python block.
    quicker : what is replaced in the blocks to save time.
    """

    folders: tuple[str, ...] = ()
    code: str = ""
    quicker: dict[str, str] = field(default_factory=dict)


SETTINGS = {
    "first/dicom.md": Setting(("hospital-export",)),
    "first/nifti.md": Setting(("raw", "scans", "masks")),
    "first/ndsampler.md": Setting(("bundle",)),
    "first/pytorch.md": Setting(("bundle",)),
    **{
        f"concepts/{page}.md": Setting(("bundle",))
        for page in ("geometry", "windows", "categories", "files", "randomness")
    },
    **{f"howto/{page.stem}.md": Setting(("bundle", "raw")) for page in (PAGES / "howto").glob("*.md")},
    "reference/codes.md": Setting(("bundle",)),
    "howto/nnunet.md": Setting(("Dataset001_Liver", "nnUNet_preprocessed")),
    "README.md Two commands": Setting(),
    "README.md You have DICOM": Setting(("hospital-export",)),
    "README.md You have NIfTI, or an nnU-Net data set": Setting(
        ("Dataset001_Liver", "scans", "masks", "categories.json"),
        "import ndvol; catalog = ndvol.open('bundle/')",
        {"(96, 96, 96)": "(16, 32, 32)", "--window 32,96,96": "--window 16,32,32 --positive 4"},
    ),
    "README.md You know ndsampler": Setting(
        ("bundle",),
        "import ndvol; catalog = ndvol.open('bundle/').subset(['toy-0', 'toy-1'])",
        {"(96, 96, 96)": "(16, 32, 32)", "shapes8": "shapes1"},
    ),
    "README.md You train with PyTorch": Setting(
        ("bundle",),
        "import ndvol",
        {"(96, 96, 96)": "(16, 32, 32)", "range(100)": "range(1)", "num_workers=4": "num_workers=0"},
    ),
    "README.md You want to see it": Setting(("bundle",)),
    "README.md How fast": Setting(),
    "README.md What is in a bundle": Setting(),
}
"""By page."""


def model(image):
    """A network's place: the scores of two classes."""
    return np.stack([image < 50, image >= 50]).astype(np.float32)


def parts():
    """Name and blocks of each page, and of each section of the README."""
    found = {str(p.relative_to(PAGES)): blocks_of(p) for p in sorted(PAGES.rglob("*.md"))}
    readme = ROOT / "README.md"
    starts = [(n, line[3:]) for n, line in enumerate(readme.read_text().splitlines(), 1) if line.startswith("## ")]
    for block in blocks_of(readme):
        title = [title for n, title in starts if n < block.line][-1]
        found.setdefault(f"README.md {title}", []).append(block)
    return {name: blocks for name, blocks in found.items() if blocks}


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"))


def needed(blocks: list[Block]) -> set[str]:
    text = "\n".join(b.text for b in blocks if b.language in ("python", "pycon"))
    return {package for word, package in PACKAGES.items() if re.search(rf"\b{re.escape(word)}\b", text)}


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning", "ignore:optional .* is not available")
@pytest.mark.parametrize("name", parts())
def test_page(name, shelf, tmp_path, monkeypatch):
    blocks = parts()[name]
    if missing := sorted(p for p in needed(blocks) if not find_spec(p)):
        pytest.skip(f"not installed: {', '.join(missing)}")
    setting = SETTINGS.get(name, Setting())
    for folder in setting.folders:
        shelf.copy(folder, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shelf.path("cache")))
    page = Page(tmp_path, {"model": model}, setting.quicker)
    for block in blocks:
        if block.language in ("python", "pycon") and "ready" not in page.names:
            exec(setting.code, page.names)
            page.names["ready"] = True
        try:
            page.run(block)
        except Exception as error:
            raise AssertionError(f"{name}, line {block.line}: {error}") from error
    if name in PICTURES:
        made, shown = (Image.open(p) for p in (PICTURES[name][0], PAGES / "pictures" / PICTURES[name][1]))
        assert made.size == shown.size
        # Fonts may differ a little.
        assert np.abs(np.asarray(made, float) - np.asarray(shown, float)).mean() < 2


def test_all_blocks_are_run_or_text():
    wrong = [(name, b.line, b.language) for name, blocks in parts().items() for b in blocks if missing_from(b)]
    assert wrong == []


def test_a_wrong_output_is_found(tmp_path):
    page = Page(tmp_path, {}, {})
    page.run(Block("console", "", 1, "$ ndvol ls nowhere\nndvol: ...[catalog]\n$ echo $?\n1\n"))
    page.run(Block("pycon", "", 1, ">>> a = 1\n>>> a\n1\n"))
    with pytest.raises(AssertionError, match="the page shows"):
        page.run(Block("console", "", 1, "$ ndvol ls nowhere\nfine\n"))
    with pytest.raises(AssertionError, match="Expected"):
        page.run(Block("pycon", "", 1, ">>> a\n2\n"))
    with pytest.raises(AssertionError, match="exit code 1"):
        page.run(Block("sh", "", 1, "ndvol ls nowhere\n"))
    with pytest.raises(NameError):
        page.run(Block("python", "", 1, "b\n"))
