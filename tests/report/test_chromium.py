"""The page in a browser: its script runs under its own policy, and obeys no name of a stranger."""

from __future__ import annotations

import json

import bundles
import pytest
from browser import CHROMIUM, Browser

import ndvol
from ndvol.report import DrawOptions, ReportOptions, write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
PAYLOAD = '"><img src=x onerror="document.title=666"><script>document.title=666</script>'
GREYS = """(() => {{
  const canvas = document.querySelectorAll("canvas")[{0}];
  const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return [...bytes].filter((_, k) => k % 4 === 0);
}})()"""
CLICK = "document.querySelectorAll({0!r})[{1}].click()"
ROWS = """[...document.querySelectorAll("#table-{0} tbody tr")].filter((row) => !row.hidden)
  .map((row) => row.cells[{1}].innerText)"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = bundles.make_bundle(tmp_path_factory.mktemp("browser") / "bundle", ["ct", "colour", "thin"])
    catalogue = json.loads((folder / "data.kwcoco.json").read_text())
    catalogue["images"][2]["name"] = PAYLOAD
    (folder / "data.kwcoco.json").write_text(json.dumps(catalogue))
    rows = [
        {"root": "", "source": f"{k}", "status": status, "code": "x", "message": PAYLOAD, "case": None, "files": k}
        for k, status in enumerate(["imported", "refused", "refused"])
    ]
    (folder / "import.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def browser(folder):
    page = folder.parent / "report.html"
    write_report(ndvol.open(folder), page, ReportOptions(DrawOptions((4,), 1, counted=1)))
    with Browser(page, folder.parent / "profile") as browser:
        yield browser


def test_nothing_is_fetched_and_names_are_not_obeyed(browser):
    browser.until("document.images.length === [...document.images].filter((image) => image.complete).length")
    assert browser.value("document.title") == "bundle – ndvol report"
    assert browser.value(ROWS.format("cases", 0))[2] == PAYLOAD
    assert [url for url in browser.requested if not url.startswith("data:image/png")] == [
        browser.value("location.href")
    ]


def test_pictures_have_the_greys_of_the_chosen_window(folder, browser):
    # Only what was unpacked has lost its data.
    browser.until("document.querySelectorAll('canvas[data-z]').length === 0")
    ct = ndvol.open(folder)["ct"].images["CT"]
    z = int(browser.value("document.querySelector('figcaption span').textContent").split()[1]) - 1
    plane = ct[z].astype(float)
    for preset, (low, high) in enumerate([(-160, 240), (-1350, 150), (-500, 1300)]):
        browser.value(CLICK.format("#case-0 .panel input[type=radio]", preset))
        expected = ((plane - low) / (high - low) * 255).clip(0, 255).ravel()
        # In a window of 255 greys a picture of 65,536 values shows each to within one of its steps.
        browser.until(
            f"(() => {{ const wanted = {expected.round(2).tolist()};"
            f" return {GREYS.format(0)}.every((grey, k) => Math.abs(grey - wanted[k]) <= 1.5); }})()"
        )


def test_a_click_on_a_column_sorts_by_it_and_another_one_turns_it_round(browser):
    def objects():
        return [int(n) for n in browser.value(ROWS.format("cases", 9))]

    browser.value(CLICK.format("#table-cases thead button", 9))
    assert objects() == sorted(objects())
    assert len(set(objects())) > 1
    browser.value(CLICK.format("#table-cases thead button", 9))
    assert objects() == sorted(objects(), reverse=True)
    assert browser.value("document.querySelectorAll('[aria-sort]').length") == 1


def test_rows_are_sifted_by_status_and_by_words(browser):
    assert browser.value(ROWS.format("verdicts", 2)) == ["1", "2", "0"]
    browser.value(CLICK.format("input[data-status=refused]", 0))
    assert browser.value(ROWS.format("verdicts", 2)) == ["0"]
    assert browser.value("document.querySelector('output[data-table=verdicts]').textContent") == "1 of 3"
    browser.value(CLICK.format("input[data-status=refused]", 0))
    find = "(() => {{ const field = document.querySelector('input[data-table={0}]'); field.value = {1!r};"
    find += " field.dispatchEvent(new Event('input')); }})()"
    browser.value(find.format("cases", "CZYX 14"))
    assert browser.value(ROWS.format("cases", 0)) == ["colour"]
    browser.value(find.format("cases", ""))
    assert len(browser.value(ROWS.format("cases", 0))) == 3
