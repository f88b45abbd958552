"""The page of a report as a file: complete in itself, harmless, the same each time, and true."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import bundles
import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import ndvol
from ndvol.categories import CategoryTree
from ndvol.cli import main
from ndvol.markup import Html, element, text
from ndvol.report import DrawOptions, ReportOptions, write_report

SMALL = ReportOptions(DrawOptions(window=(4,), count=2, counted=20))
NASTY = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&lt;"
VOID = {"br", "img", "input", "meta"}


class Page(HTMLParser):
    """Elements with their attributes, the text, and whether every element that was opened was closed in its place."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.elements if t == tag and attributes.items() <= a.items()]


def report(folder, options=SMALL):
    path = folder.parent / f"{folder.name}.html"
    problems = write_report(ndvol.open(folder), path, options)
    return path.read_text("utf-8"), problems


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with every kind of case, and a journal."""
    folder = bundles.make_bundle(tmp_path_factory.mktemp("report") / "all")
    rows = [
        {"root": "r", "source": "a.nii", "status": "imported", "code": "ok", "message": "", "case": "ct", "files": 3},
        {"root": "r", "source": "b", "status": "refused", "code": "gap", "message": NASTY, "case": None, "files": 1},
    ]
    (folder / "import.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def source(bundle):
    found, problems = report(bundle)
    assert problems == {}
    return found


def test_the_page_fetches_nothing_and_permits_no_script_but_its_own(source):
    page = Page(source)
    assert page.open == []
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), attributes[name][:80]
        assert not [name for name in attributes if name.startswith("on")]
    (style,) = re.findall(r"<style>(.*?)</style>", source, re.S)
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"[a-z]+://", re.sub(r"data-z=\"[^\"]*\"|data:image/png;base64,[^\"]*", "", source))
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:")
    assert "unsafe-inline" not in policy["content"].partition("script-src")[2]
    assert not page.all("link")
    assert not page.all("iframe")


def test_every_case_has_a_row_and_its_pictures(bundle, source):
    page = Page(source)
    for number, name in enumerate(bundles.CASES):
        assert name in page.texts
        assert page.all("article", id=f"case-{number}")
    cases = ndvol.open(bundle)
    expected = sum(3 if "z" in image.axes else 1 for name in cases for image in cases[name].images.values())
    assert len(page.all("canvas")) == expected
    assert {a["data-kind"] for a in page.all("canvas")} == {"grey", "rgb"}
    assert re.search(r"t \d of 3", page.text)
    assert "All cases." in page.text


def test_the_tree_counts_each_category_with_all_below_it(bundle, source):
    row = (
        r'--depth:(\d)" class="tree"><i [^>]*></i>([^<]+)</th><td class="n">([\d,]+)</td><td>.*?</td>'
        r'<td class="n">([\d,]+)</td><td>.*?</td><td class="n">(\d+)</td>'
    )
    found = {name: (int(d), int(o), int(v), int(c)) for d, name, o, v, c in re.findall(row, source)}
    catalog = ndvol.open(bundle)
    voxels = {
        case: sum(
            np.isin(np.asarray(label), [v for v, n in label.categories.items() if n in ("lesion", "cyst")]).sum()
            for label in catalog[case].labels.values()
        )
        for case in catalog
    }
    assert list(found) == ["finding", "lesion", "cyst", "organ", "never-seen"]
    assert [depth for depth, *_ in found.values()] == [0, 1, 2, 0, 0]
    assert found["finding"][1:] == found["lesion"][1:]
    assert found["lesion"][2:] == (sum(voxels.values()), sum(n > 0 for n in voxels.values()))
    assert found["never-seen"] == (0, 0, 0, 0)


def test_verdicts_are_listed_the_gravest_first(source):
    page = Page(source)
    assert [a["data-status"] for a in page.all("tr") if "data-status" in a] == ["refused", "imported"]
    assert [a["data-status"] for a in page.all("input", type="checkbox") if "data-status" in a] == [
        "refused",
        "imported",
    ]
    assert "What happened to 2 sources with 4 files, and why." in page.text


def test_letters_stand_where_the_frame_is_the_patients_and_nowhere_else(tmp_path):
    source, _ = report(bundles.make_bundle(tmp_path / "a", ["ct"]))
    letters = re.findall(r'<b class="([lrtb])">(\w+)</b>', source)
    assert letters[:4] == [("l", "R"), ("r", "L"), ("t", "A"), ("b", "P")]
    assert len(letters) == 12
    source, _ = report(bundles.make_bundle(tmp_path / "b", ["pair"]))
    assert not re.findall(r'<b class="([lrtb])">', source)


def test_what_strangers_wrote_is_shown_as_text(tmp_path, monkeypatch):
    nasty = {value: f"{value}{NASTY}" for value in (1, 2, 7, 9)}
    monkeypatch.setattr(bundles, "CATEGORIES", nasty)
    monkeypatch.setattr(bundles, "TREE", CategoryTree.from_coco({"name": name} for name in nasty.values()))
    folder = bundles.make_bundle(tmp_path / "bundle", ["ct", "one"])
    catalogue = json.loads((folder / "data.kwcoco.json").read_text())
    for image in catalogue["images"]:
        image["name"] = NASTY + image["name"]
    (folder / "data.kwcoco.json").write_text(json.dumps(catalogue))
    row = dict.fromkeys(("root", "source", "status", "code", "message", "case"), NASTY) | {"files": 1}
    (folder / "import.jsonl").write_text(json.dumps(row))
    (folder / "volumes" / "one.h5").write_bytes(b"no HDF5")
    source, problems = report(folder)
    page = Page(source)
    assert list(problems) == [NASTY + "one"]
    assert page.open == []
    assert len(page.all("script")) == 1
    assert not page.all("img", src="x")
    for name in (NASTY, NASTY + "ct", NASTY + "one", *list(nasty.values())[:3]):
        assert name in page.texts


def test_the_same_bundle_makes_the_same_bytes_wherever_it_lies(bundle, source, tmp_path):
    assert report(shutil.copytree(bundle, tmp_path / bundle.name))[0] == source


def test_what_was_asked_for_is_drawn_and_what_is_really_drawn_is_told(tmp_path):
    folder = bundles.make_bundle(tmp_path / "bundle", ["ct"])
    options = ReportOptions(DrawOptions((1, 4, 4), 3, categories=("lesion",), seed=5, counted=40))
    source, _ = report(folder, options)
    page = Page(source)
    roles = [a["alt"].split()[0] for a in page.all("img")]
    assert roles == ["positive"] * 3 + ["negative"] * 3
    strategy = ndvol.Mix({ndvol.Positive("lesion"): 1, ndvol.Negative("lesion"): 1})
    sampler = ndvol.VolumeSampler(ndvol.open(folder), (1, 4, 4), strategy=strategy, seed=5)
    loads = [(load, k) for load in (sampler.load_positive, sampler.load_negative) for k in range(3)]
    for load, k in loads:
        assert f"at {', '.join(map(str, load(k).target.window.start))}" in page.texts
    for share in sampler.report(40).roles:
        assert f"{share.interval[0]:.1%} … {share.interval[1]:.1%}" in page.texts


def test_cases_that_no_one_window_fits_are_drawn_from_kind_by_kind(source):
    text = Page(source).text
    assert "CT, 2 cases, zyx 4 × 4 × 4 voxels" in text
    assert "photo, 1 case, czyx 3 × 4 × 4 × 4 voxels" in text
    assert "kinds of cases are drawn from." in text


def test_where_windows_cannot_be_drawn_the_page_says_why(tmp_path):
    source, _ = report(bundles.make_bundle(tmp_path / "a", ["pair"]))
    assert "No positive windows: no case holds a voxel of any category" in Page(source).text
    assert [a["alt"].split()[0] for a in Page(source).all("img")] == ["any", "any"]
    three = ReportOptions(DrawOptions(window=(2, 2, 2)))
    source, _ = report(bundles.make_bundle(tmp_path / "b", ["one"]), three)
    assert "the window does not fit these cases; got (2, 2, 2)" in Page(source).text


def test_windows_that_cannot_be_read_are_told_once(tmp_path):
    source, problems = report(bundles.make_pet_ct(tmp_path / "bundle"), ReportOptions(DrawOptions((4,), 5, counted=1)))
    page = Page(source)
    told = re.findall(
        r"(\d) (\w+) windows? could not be read: volume 'uptake' of case 'ct' lies on another grid", page.text
    )
    tiles = [a["alt"].split()[0] for a in page.all("img")]
    assert told
    assert problems == {}
    for count, role in told:
        assert int(count) + tiles.count(role) == 5


def test_a_catalogue_without_cases_has_a_page(tmp_path):
    folder = bundles.make_bundle(tmp_path / "bundle", ["one"])
    catalog = ndvol.open(folder).subset([])
    assert write_report(catalog, tmp_path / "x.html", SMALL) == {}
    assert "No case could be drawn." in Page((tmp_path / "x.html").read_text("utf-8")).texts


def test_only_some_of_many_cases_have_pictures_and_the_page_says_so(tmp_path):
    folder = bundles.make_bundle(tmp_path / "bundle", ["ct", "pair", "one"])
    source, _ = report(folder, ReportOptions(DrawOptions((4,), 0, counted=1), pictured=2))
    page = Page(source)
    assert [a["id"] for a in page.all("article")] == ["case-0", "case-1"]
    assert "2 of 3 cases, evenly spread over the table." in page.text


def test_a_damaged_case_costs_itself_alone(tmp_path):
    folder = bundles.make_bundle(tmp_path / "bundle", ["ct", "oblique", "one"])
    (folder / "volumes" / "oblique.h5").write_bytes(b"this is no HDF5 file")
    flip_image_chunk(folder / "volumes" / "ct.h5", "images/CT/0")
    page = folder / "report.html"
    done = CliRunner().invoke(main, ["report", str(folder), "-o", str(page), "--windows", "0", "--json"])
    assert done.exit_code == 3, done.output
    told = json.loads(done.stdout)
    assert set(told["unreadable"]) == {"ct", "oblique"}
    assert told["bytes"] == page.stat().st_size
    found = Page(page.read_text("utf-8"))
    assert "2 cases could not be read, or not all of it" in found.text
    for told_there in told["unreadable"].values():
        assert told_there.replace(f"{folder}/", "") in found.texts
    # The page may go where nobody needs to know where the bundle lay.
    assert str(folder) not in found.text
    assert len(found.all("article")) == 1
    assert "No windows were asked for." in found.texts
    source, problems = report(folder)
    assert set(problems) == {"ct", "oblique"}
    assert {alt.rpartition(" in ")[2] for alt in (a["alt"] for a in Page(source).all("img"))} == {"one"}


def flip_image_chunk(path, dataset):
    """Change one stored byte of each chunk of a data set."""
    with h5py.File(path, locking=False) as file:
        chunks = []
        file[dataset].id.chunk_iter(chunks.append)
    data = bytearray(path.read_bytes())
    for chunk in chunks:
        data[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def test_mistakes_are_told_in_one_line(bundle, tmp_path):
    def run(*arguments):
        done = CliRunner().invoke(main, ["report", str(bundle), "-o", str(tmp_path / "x.html"), *arguments])
        return done.exit_code, done.output

    assert run("--category", "lesions")[0] == 1
    assert "did you mean 'lesion'?" in run("--category", "lesions")[1]
    assert run("--window", "4x4")[0] == 2
    missing = CliRunner().invoke(main, ["report", str(bundle), "-o", str(tmp_path / "no" / "x.html"), "--windows", "0"])
    assert missing.exit_code == 2
    assert "there is no folder" in missing.output
    assert list(tmp_path.iterdir()) == []


def test_text_is_escaped_unless_it_is_markup_already():
    assert text(Html("<b>")) == "<b>"
    assert element("a", {"title": NASTY}, NASTY).count("<") == 2
    assert text("a\u202eb\x00") == "a?b?"
