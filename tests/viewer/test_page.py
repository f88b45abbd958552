"""The page in a real browser: what it shows is what is stored, and nothing leaves the machine."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import h5py
import hdf5plugin  # noqa: F401  the codecs of the file, for plain h5py
import numpy as np
import pytest

from ndvol.catalog import Catalog
from ndvol.opening import open_catalog
from ndvol.toy import ToyOptions, toy_catalog

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and its driver are not installed")

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--window-size=1280,900", "--force-device-scale-factor=1"),
)


class Page:
    """The viewer's page, as a person uses it."""

    def __init__(self, driver) -> None:
        self.driver = driver

    def open(self, url: str, **state: object) -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{url}#{urlencode(state)}")
        self.settle()

    def settle(self) -> None:
        """Wait until every plane in sight is drawn, and the status line has its answer."""
        script = (
            "const panes = [...document.querySelectorAll('.pane')].filter((pane) => !pane.hidden);"
            "return panes.length > 0 && panes.every((pane) => pane.dataset.busy === '0');"
        )
        self.until(lambda: self.driver.execute_script(script))
        time.sleep(0.1)

    def until(self, condition) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, f"still not so: {self.status}, {self.driver.get_log('browser')}"
            time.sleep(0.05)

    def find(self, selector: str):
        return self.driver.find_elements("css selector", selector)

    def keys(self, text: str) -> None:
        self.find("body")[0].send_keys(text)
        self.settle()

    def tab(self, name: str) -> None:
        self.find(f"[data-tab={name}]")[0].click()
        self.until(lambda: self.find(f"[data-tab={name}][aria-selected=true]"))
        self.settle()

    @property
    def status(self) -> str:
        return " | ".join(node.text for node in self.find("#status > span") if node.text)

    @property
    def state(self) -> dict[str, str]:
        """What the address holds, once it has been written there."""
        time.sleep(0.2)
        facts = parse_qs(self.driver.execute_script("return location.hash.slice(1)"), keep_blank_values=True)
        return {name: value for name, [value] in facts.items()}

    def point(self, plane: str, right: int = 0, down: int = 0):
        """Chain of actions with the mouse so far from the middle of a plane."""
        [canvas] = self.find(f"[data-plane={plane}] canvas")
        return webdriver.ActionChains(self.driver, duration=20).move_to_element_with_offset(canvas, right, down)

    def hover(self, plane: str, right: int = 0, down: int = 0) -> tuple[dict[str, int], str]:
        """The index and the value that the status line shows there."""
        before = self.find("#status .voxel")[0].text
        self.point(plane, right + 40, down + 40).perform()
        self.until(lambda: self.find("#status .voxel")[0].text != before)
        self.point(plane, right, down).perform()
        time.sleep(0.3)
        words = self.find("#status .voxel")[0].text.split()
        index = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        return index, self.find("#status .value")[0].text

    def pixel(self, plane: str, right: int = 0, down: int = 0) -> list[int]:
        """Red, green and blue on the canvas, so far from its middle."""
        script = (
            "const canvas = document.querySelector(`[data-plane=${arguments[0]}] canvas`);"
            "const x = Math.floor(canvas.width / 2) + arguments[1], y = Math.floor(canvas.height / 2) + arguments[2];"
            "return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3)];"
        )
        return self.driver.execute_script(script, plane, right, down)

    def complaints(self) -> list[str]:
        """What the console says, but for what it thinks of reading pixels back, as these tests do."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["source"] != "rendering"]

    def requests(self) -> list[str]:
        """Addresses that the browser has asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("chrome:", "data:", "about:"))]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)) as driver:
        yield driver


@pytest.fixture
def page(browser):
    """The page, which must leave no word of complaint in the browser's console."""
    found = Page(browser)
    found.requests()
    yield found
    assert found.complaints() == []


@pytest.fixture(scope="module")
def stored(bundle):
    with h5py.File(bundle / "volumes" / "toy.h5", locking=False) as file:
        return file["images/CT/0"][...], file["labels/labels/0"][...]


def test_values_under_the_cursor_are_those_stored(page, toy, stored):
    page.open(toy.server.url, zoom=2)
    image, labels = stored
    seen = set()
    for plane, right, down in (("axial", -90, 60), ("coronal", 40, -30), ("sagittal", -50, 20)):
        index, value = page.hover(plane, right, down)
        at = tuple(index[a] for a in "zyx")
        seen.add(at)
        assert value.split()[0] == str(image[at])
        assert (f"({labels[at]})" in page.status) == bool(labels[at])
    assert len(seen) == 3


def test_the_picture_is_the_stored_plane_between_black_and_white(page, toy, stored):
    # So large that voxels have edges: 255 grey values for as many HU.
    page.open(toy.server.url, zoom=6, cross=0, labels="", low=-100, high=155)
    image, _ = stored
    for plane, right, down in (("axial", 121, -83), ("coronal", 60, 41), ("sagittal", -35, -20)):
        index, _ = page.hover(plane, right, down)
        expected = np.clip(image[tuple(index[a] for a in "zyx")] + 100, 0, 255)
        assert page.pixel(plane, right, down) == [expected] * 3, (plane, index)


@pytest.mark.slow
def test_labels_lie_where_they_are_stored_in_the_colours_of_their_categories(page, toy, stored):
    facts = toy.ask("case", case="toy")[1]["labels"][0]["values"]
    colours = {0: None} | {v["value"]: v["colour"] for v in facts}
    page.open(toy.server.url, zoom=3, cross=0, opacity=1, style="fill", low=-2000, high=5000)
    _, labels = stored
    seen = set()
    for plane, right, down in (("axial", -81, -83), ("axial", 150, 160), ("sagittal", -15, -20)):
        index, _ = page.hover(plane, right, down)
        value = int(labels[tuple(index[a] for a in "zyx")])
        seen.add(value)
        red, green, blue = page.pixel(plane, right, down)
        assert [red, green, blue] == colours[value] if value else red == green == blue
    assert len(seen) > 1


@pytest.mark.slow
def test_the_wheel_and_the_keys_move_through_the_slices_of_the_plane_under_the_mouse(page, toy):
    page.open(toy.server.url, at="10,20,15")
    [canvas] = page.find("[data-plane=coronal] canvas")
    origin = webdriver.common.actions.wheel_input.ScrollOrigin.from_element(canvas)
    webdriver.ActionChains(page.driver).scroll_from_origin(origin, 0, 40).perform()
    page.settle()
    assert page.state["at"] == "10,21,15"
    page.point("sagittal").perform()
    page.keys(webdriver.Keys.ARROW_DOWN * 2)
    assert page.state["at"] == "10,21,13"


@pytest.mark.slow
def test_the_crosshair_links_the_planes(page, toy):
    page.open(toy.server.url, at="3,20,15")
    page.point("axial", 60, -40).click().perform()
    page.settle()
    at = page.state["at"].split(",")
    assert at[0] == "3"
    shown = [page.find(f"[data-plane={name}]")[0].get_attribute("data-at") for name in ("axial", "coronal", "sagittal")]
    assert shown == at
    index, _ = page.hover("axial", 60, -40)
    assert [str(index[a]) for a in "zyx"] == at


@pytest.mark.slow
def test_brightness_by_preset_number_and_mouse(page, toy):
    page.open(toy.server.url)
    assert (page.state["preset"], page.state["low"], page.state["high"]) == ("soft tissue", "-160", "240")
    page.keys("3")
    assert (page.state["preset"], page.state["low"], page.state["high"]) == ("bone", "-500", "1300")
    before = page.pixel("axial", 20, 20)
    chain = page.point("axial").key_down(webdriver.Keys.SHIFT).click_and_hold().move_by_offset(0, 120).release()
    chain.key_up(webdriver.Keys.SHIFT).perform()
    page.settle()
    state = page.state
    assert "preset" not in state
    assert float(state["low"]) < -500
    assert float(state["high"]) - float(state["low"]) == pytest.approx(1800, rel=1e-3)
    assert page.pixel("axial", 20, 20) > before


def test_an_object_is_jumped_to_and_centred(page, toy, bundle):
    page.open(toy.server.url, tab="objects")
    objects = open_catalog(bundle).record("toy").objects
    order = np.argsort(-objects.voxels, kind="stable")
    rows = page.find("#panel .row")
    assert len(rows) == len(objects)
    for place in (0, len(rows) - 1):
        page.find("#panel .row")[place].click()
        page.settle()
        k = order[place]
        middle = ((objects.start[k] + objects.stop[k] - 1) // 2).tolist()
        assert page.state["at"] == ",".join(map(str, middle))
        index, _ = page.hover(("axial", "sagittal")[place > 0])
        assert [index[a] for a in "zyx"] == middle
    search = page.find("#panel input[type=search]")[0]
    search.send_keys("kidney")
    names = "return [...document.querySelectorAll('#panel .row .name')].map((node) => node.textContent)"
    page.until(lambda: set(page.driver.execute_script(names)) == {"kidney"})


@pytest.mark.slow
def test_drawn_windows_are_shown_in_place_and_a_reload_keeps_it_all(page, toy):
    page.open(toy.server.url, tab="windows", labels="", cross=0, low=2000, high=3000)
    page.find(".draw .main")[0].click()
    page.until(lambda: len(page.find("#panel .row")) == 16)
    page.find(".steps button")[1].click()
    page.settle()
    draw = json.loads(page.state["draw"])
    facts = {name: draw[name] for name in ("window", "positive", "negative", "seed")}
    first = toy.ask("windows", case="toy", **facts)[1]["windows"][0]
    assert page.state["at"] == ",".join(map(str, first["point"]))
    # The image is black at this brightness, so what is bright is the frame of the window: its middle is not.
    assert page.pixel("axial") == [0, 0, 0]
    script = (
        "const canvas = document.querySelector('[data-plane=axial] canvas'), {width, height} = canvas;"
        "const data = canvas.getContext('2d').getImageData(0, 60, width, height - 120).data, found = [];"
        "for (let i = 0; i < data.length; i += 4) if (data[i + 1] > 180 && data[i] < 120) found.push(i / 4 % width);"
        "return [Math.min(...found), Math.max(...found), width];"
    )
    left, right, width = page.driver.execute_script(script)
    assert 0 < left < width / 2 < right < width
    pixels = "return document.querySelector('[data-plane=axial] canvas').toDataURL()"
    state, picture = page.state, page.driver.execute_script(pixels)
    page.driver.refresh()
    page.settle()
    page.until(lambda: len(page.find("#panel .row.chosen")) == 1)
    page.settle()
    assert page.state == state
    assert page.driver.execute_script(pixels) == picture


def test_no_request_leaves_the_loopback_address(page, toy):
    page.open(toy.server.url)
    for tab in ("cases", "labels", "windows", "objects"):
        page.tab(tab)
    places = {(urlsplit(url).scheme, urlsplit(url).netloc) for url in page.requests()}
    assert places == {("http", urlsplit(toy.server.url).netloc)}


@pytest.mark.slow
def test_names_of_strangers_are_text(page, serve):
    name = "<img src=x onerror=document.title='hit'>\"'&<b>"
    toy = toy_catalog(1, ToyOptions(categories=[{"name": name}], objects=(3, 3)))
    record = toy.record("toy-0")
    client = serve(Catalog([record], toy.categories, toy._open_case))
    page.open(client.server.url)
    for tab in ("labels", "windows", "objects"):
        page.tab(tab)
        assert page.driver.execute_script("return document.querySelectorAll('img, #panel b b').length") == 0
    assert name in page.find("#panel")[0].text
    assert page.driver.title == "toy-0 – ndvol view"


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["yx", "cyx", "tzyx"])
def test_any_axes_are_shown(page, serve, axes):
    page.open(serve(toy_catalog(1, ToyOptions(axes))).server.url)
    assert len(page.find(".pane")) == (3 if "z" in axes else 1)
    assert [bool(node.is_displayed()) for node in page.find("#toolbar .axis")] == ["t" in axes, "c" in axes]


@pytest.mark.slow
def test_damage_is_said_in_the_page(browser, serve, bundle, tmp_path):
    page = Page(browser)
    shutil.copytree(bundle, tmp_path / "copy")
    path = tmp_path / "copy" / "volumes" / "toy.h5"
    with h5py.File(path, locking=False) as file:
        place = file["images/CT/0"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[place.byte_offset + place.size // 2] ^= 1
    Path(path).write_bytes(data)
    client = serve(open_catalog(tmp_path / "copy"))
    page.open(client.server.url, at="0,0,0")
    page.until(lambda: "toy.h5" in page.find("#status .trouble")[0].text)
    # The browser itself notes every answer that is an error.
    assert all("500" in text for text in page.complaints())
