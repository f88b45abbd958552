"""What a notebook shows: true pictures at a bounded price, whatever the names and the files hold."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from PIL import Image

import ndvol
from ndvol.catalog import CaseRecord, Catalog, Objects
from ndvol.categories import CategoryTree
from ndvol.display import thumbnail
from ndvol.display.png import png
from ndvol.display.thumbnails import MOST_VOXELS, SIDE, value_colour
from ndvol.errors import DamageError
from ndvol.geometry import Grid, Window
from ndvol.sampling import Reading, Target
from ndvol.store import CaseWriter, open_case
from ndvol.toy import ToyOptions, toy_catalog
from ndvol.volumes import ArrayLabelSource, ArraySource, Case, LabelVolume, Volume

HOSTILE = "<script>alert(1)</script>\x1b[31m"
NO_OBJECTS = Objects(*[np.zeros(0, np.int64)] * 3, *[np.zeros((0, 3), np.int64)] * 2, np.zeros(0, np.int64))


class Page(html.parser.HTMLParser):
    """Tags that are closed as they were opened, the text, and the pictures with their styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open, self.tags, self.text, self.pictures = [], set(), "", []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            facts = dict(attrs)
            data = base64.b64decode(facts["src"].removeprefix("data:image/png;base64,"))
            self.pictures.append((np.asarray(Image.open(io.BytesIO(data))), facts["style"]))
        elif tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "\n"


def page(thing) -> Page:
    return Page(thing._repr_html_())


def volume(array, axes="zyx", spacing=(2.0, 1.0, 1.0), name="CT", **attributes) -> Volume:
    return Volume(name, Grid.regular(axes, array.shape, spacing=spacing), ArraySource(array), attributes)


def labels(array, categories, spacing=(2.0, 1.0, 1.0), name="organs") -> LabelVolume:
    return LabelVolume(
        name, Grid.regular("zyx", array.shape, spacing=spacing), ArrayLabelSource(array), categories=categories
    )


class Counting(ArraySource):
    """Remembers what is read of it."""

    def __init__(self, array) -> None:
        super().__init__(array)
        self.sizes = []

    def read_into(self, window, out, *, level=0, fill_value=0):
        self.sizes.append(window.size)
        return super().read_into(window, out, level=level, fill_value=fill_value)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (5, 7, 3), (300, 2)])
def test_png_files_are_read_by_pillow(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)


def test_a_volume_shows_its_middle_plane_and_facts():
    array = np.zeros((5, 6, 8), np.int16)
    array[2, 1, 3] = 100
    shown = page(volume(array, modality="MR"))
    [(pixels, _)] = shown.pictures
    assert pixels.shape == (6, 8)
    assert np.argwhere(pixels == pixels.max()).tolist() == [[1, 3]]
    for fact in ("zyx", "5 x 6 x 8", "int16", "2 x 1 x 1 mm", "LPS", "MR", "z 2 of 5, values 0 … 100"):
        assert fact in shown.text


@pytest.mark.parametrize(("spacing", "size"), [((1, 1, 1), (96, 192)), ((1, 2, 1), (192, 192)), ((1, 4, 1), (192, 96))])
def test_the_picture_has_the_proportions_of_the_world(spacing, size):
    [(_, style)] = page(volume(np.zeros((3, 50, 100), np.int16), spacing=spacing)).pictures
    width, height = map(int, re.search(r"width:(\d+)px;height:(\d+)px", style).groups())
    assert (height, width) == size


def test_ct_is_shown_in_its_window():
    array = np.full((1, 2, 3), -1000, np.int16)
    array[0, 0] = (-160, 40, 240)
    [(pixels, _)] = page(volume(array, modality="CT")).pictures
    assert pixels.tolist() == [[0, 127, 255], [0, 0, 0]]


def test_only_one_plane_is_read():
    source = Counting(np.zeros((40, 30, 20), np.int16))
    page(Volume("v", Grid.regular("zyx", source.shape), source))
    assert source.sizes == [30 * 20]


def test_a_coarser_level_is_read_where_it_fills_the_picture():
    grid = Grid.regular("zyx", (4, 2 * SIDE, 2 * SIDE), spacing=(1, 1, 1))
    coarse = Grid.regular("zyx", (2, SIDE, SIDE), spacing=(2, 2, 2))

    class Two(ArraySource):
        levels = 2

        def read_into(self, window, out, *, level=0, fill_value=0):
            assert level == 1
            out[...] = window.start[0]
            return Window.full(out.shape)

    two = Volume("MR", grid, Two(np.zeros(grid.shape, np.uint8)), coarser=(coarse,))
    picture = thumbnail(two)
    assert (picture.level, picture.pixels.shape, picture.start["z"], picture.step) == (1, (SIDE, SIDE), 1, 1)


def test_a_plane_that_is_too_large_is_not_read():
    side = int(MOST_VOXELS**0.5) + 1
    source = Counting(np.broadcast_to(np.uint8(0), (side, side)))
    shown = page(Volume("slide", Grid.regular("yx", source.shape), source))
    assert "cannot be shown: a plane is too large" in shown.text
    assert source.sizes == []


@pytest.mark.parametrize(("axes", "shape"), [("x", (5,)), ("zyx", (0, 3, 3)), ("tx", (2, 4))])
def test_what_has_no_plane_says_so(axes, shape):
    array = np.zeros(shape, np.uint8)
    shown = page(Volume("v", Grid.regular(axes, shape), ArraySource(array)))
    assert "there is no plane of y and x to show" in shown.text
    assert shown.pictures == []


@pytest.mark.parametrize(
    ("axes", "shape", "dtype", "pixels"),
    [
        ("tczyx", (3, 3, 2, 4, 5), "uint8", (4, 5, 3)),
        ("cyx", (2, 4, 5), "float32", (4, 5)),
        ("tyx", (3, 4, 5), "bool", (4, 5)),
        ("yx", (2000, 500), "uint16", (250, 63)),
    ],
)
def test_any_axes_and_types(axes, shape, dtype, pixels):
    array = np.random.default_rng(0).random(shape).astype(dtype)
    shown = page(Volume("v", Grid.regular(axes, shape), ArraySource(array)))
    assert [p.shape for p, _ in shown.pictures] == [pixels]


def test_values_that_are_no_numbers_are_shown():
    shown = page(volume(np.full((1, 3, 3), np.nan, np.float32)))
    assert len(shown.pictures) == 1
    assert "values" not in shown.text


def test_labels_are_coloured_by_value_and_outlined_on_the_image_of_their_grid():
    values = np.zeros((3, 12, 12), np.uint8)
    values[1, 3:9, 3:9] = 7
    apart = volume(np.zeros(values.shape, np.int16), name="off", spacing=(9, 1, 1))
    images = {"CT": volume(np.zeros(values.shape, np.int16)), "off": apart}
    case = Case("a", images, {"organs": labels(values, {7: "liver"})})
    (on, _), (off, _), (coloured, _) = page(case).pictures
    assert np.array_equal((coloured == value_colour(7)).all(-1), values[1] == 7)
    ring = np.zeros((12, 12), bool)
    ring[3:9, 3:9] = True
    ring[4:8, 4:8] = False
    assert np.array_equal((on == value_colour(7)).all(-1), ring)
    assert off.ndim == 2, "another grid: no outlines"
    assert "liver" in page(case).text
    assert "liver" in page(case.labels["organs"]).text


def test_a_repr_stays_small_however_many_categories_there_are():
    values = np.arange(4 * 90 * 90, dtype=np.uint16).reshape(4, 90, 90)
    many = labels(values, {k: f"kind-{k}" for k in range(1, 20_000)})
    assert "… and 19,959 more" in page(many).text
    assert len(many._repr_html_()) < 50_000
    shown = page(toy_catalog(1, ToyOptions("yx", shape=(16, 16), categories=3000)))
    assert "… and 2,950 more" in shown.text


def test_damage_is_told_in_the_repr(tmp_path):
    grid = Grid.regular("zyx", (4, 8, 8), spacing=(1, 1, 1))
    with CaseWriter(tmp_path / "a.h5", case="a", uuid="u") as writer:
        writer.add_image("CT", np.random.default_rng(0).integers(0, 99, grid.shape).astype(np.int16), grid)
        writer.add_image("MR", np.ones(grid.shape, np.int16), grid)
        writer.set_provenance({})
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    with h5py.File(tmp_path / "a.h5") as file:
        raw[file["images/CT/0"].id.get_chunk_info(0).byte_offset + 30] ^= 1
    (tmp_path / "a.h5").write_bytes(raw)
    case = open_case(tmp_path / "a.h5")
    with pytest.raises(DamageError):
        case.images["CT"][...]
    assert "4 x 8 x 8" in page(case.images["CT"]).text
    assert "cannot be shown: chunk 0 of '/images/CT/0'" in page(case.images["CT"]).text
    shown = page(case)
    assert shown.text.count("cannot be shown") == 1
    assert len(shown.pictures) == 1
    (tmp_path / "a.h5").write_bytes(b"")
    record = CaseRecord("a", str(tmp_path / "a.h5"), "zyx", grid.shape, grid.spacing, "mm", ("CT",), (), NO_OBJECTS)
    catalog = Catalog([record], CategoryTree.from_coco([]), lambda r: open_case(r.path))
    assert "4 x 8 x 8" in page(catalog).text, "a catalogue is shown without its files"


def test_names_of_strangers_are_text(tmp_path):
    case = Case(HOSTILE, {HOSTILE: replace(volume(np.zeros((2, 3, 3), np.int16)), name=HOSTILE)}, {})
    tree = CategoryTree.from_coco([{"name": HOSTILE}])
    zero = np.zeros((1, 3), np.int64)
    one = np.zeros(1, np.int64)
    record = CaseRecord(
        HOSTILE, "", "zyx", (2, 3, 3), (1, 1, 1), "mm", (HOSTILE,), (), Objects(one, one, one, zero, zero, one)
    )
    catalog = Catalog([record], tree, lambda _: case, path=HOSTILE)
    for thing in (case, case.images[HOSTILE], catalog, tree):
        shown = page(thing)
        assert "script" not in shown.tags
        assert "<script>alert(1)</script>?[31m" in shown.text


def test_a_catalogue_lists_its_first_cases_and_counts_its_tree():
    shown = page(toy_catalog(12, ToyOptions("zyx", shape=(8, 16, 16)), seed=1))
    assert "… and 2 more" in shown.text
    assert shown.text.count("8 x 16 x 16") == 10
    catalog = toy_catalog(12, ToyOptions("zyx", shape=(8, 16, 16)), seed=1)
    finding = sum(len(r.objects) for r in catalog.records.values())
    found = re.search(r"\nfinding\n(\d+)\n", shown.text)
    assert int(found.group(1)) == finding, "all kinds of finding are below it"
    assert "· · cyst" in shown.text


def test_a_sample_shows_what_was_drawn_and_what_of_it_is_valid():
    values = np.zeros((6, 20, 20), np.uint8)
    values[3, 5:9, 5:9] = 1
    image = volume(np.arange(values.size, dtype=np.int16).reshape(values.shape))
    catalog = one_case(Case("a", {"CT": image}, {"organs": labels(values, {1: "liver"})}))
    sampler = ndvol.VolumeSampler(catalog, (4, 16, 16), seed=0)
    target = Target("a", Window((2, -6, 2), (4, 16, 16)), "positive", "liver", (3, 6, 6))
    shown = page(sampler.load_sample(target))
    for fact in ("Sample of a: positive", "liver", "zyx 2:6, -6:10, 2:18", "0:4, 6:16, 0:16; the rest is padding"):
        assert fact in shown.text
    (pixels, _), (mask, _) = shown.pictures
    # The plane through the drawn voxel: z 3 of the volume is z 1 of the patch, its label 11 rows down and 3 right.
    expected = np.zeros((16, 16), bool)
    expected[11:15, 3:7] = True
    assert np.array_equal((mask == value_colour(1)).all(-1), expected)
    assert (pixels[6, [0, 1, 2]] == 255).all(), "the dashed upper border of what is valid"
    assert "z 1 of 4" in shown.text
    whole = sampler.load_sample(replace(target, window=Window((2, 0, 2), (4, 16, 16))))
    assert "the rest is padding" not in page(whole).text
    assert page(sampler.load_sample(Target("a", Window((9, 0, 0), (2, 8, 8))))).text.count("; padding") == 1


def one_case(case: Case) -> Catalog:
    tree = CategoryTree.from_coco([{"name": "liver"}])
    image, label = next(iter(case.images.values())), next(iter(case.labels.values()))
    found = np.argwhere(label[...] == 1)
    start, stop = found.min(0)[None], found.max(0)[None] + 1
    zero = np.zeros(1, np.int64)
    objects = Objects(zero, zero, zero + 1, start, stop, zero + len(found))
    grid = image.grid
    record = CaseRecord(
        case.name, "", grid.axes, grid.shape, grid.spacing, grid.unit, tuple(case.images), tuple(case.labels), objects
    )
    return Catalog([record], tree, lambda _: case)


@pytest.mark.parametrize("axes", ["yx", "tyx", "cyx", "zyx", "tczyx"])
def test_samples_of_any_axes_are_shown(axes):
    catalog = toy_catalog(1, ToyOptions(axes, shape=tuple({"t": 3, "c": 2}.get(a, 24) for a in axes)), seed=2)
    space = sum(a in "zyx" for a in axes)
    sampler = ndvol.VolumeSampler(catalog, (16,) * space, strategy=ndvol.Positive(), seed=0, reading=Reading(pad=2))
    shown = page(sampler[0])
    assert "cannot be shown" not in shown.text
    assert [p.shape[:2] for p, _ in shown.pictures] == [(20, 20)] * 2


def test_an_image_on_another_grid_is_shown_at_the_same_place():
    fine, coarse = np.zeros((8, 16, 16), np.int16), np.zeros((4, 8, 8), np.int16)
    fine[4, 10, 12], coarse[2, 5, 6] = 500, 500
    values = (fine > 0).astype(np.uint8)
    half = Volume(
        "PET",
        Grid.regular("zyx", coarse.shape, spacing=(4, 2, 2), origin=(0.5, 0.5, 1)),
        ArraySource(coarse),
    )
    catalog = one_case(Case("a", {"CT": volume(fine), "PET": half}, {"organs": labels(values, {1: "liver"})}))
    sampler = ndvol.VolumeSampler(catalog, (8, 8, 8), seed=0, reading=Reading(images=["CT", "PET"]))
    target = Target("a", Window((0, 8, 8), (8, 8, 8)), "positive", "liver", (4, 10, 12))
    shown = page(sampler.load_sample(target))
    (_, _), (pet, _), (_, _) = shown.pictures
    assert pet.ndim == 2, "no outlines of a label on another grid"
    assert np.argwhere(pet == 255).tolist() == [[1, 2]]


def test_reprs_need_no_heavy_library():
    code = "import ndvol.volumes, sys; print(json.dumps([m for m in ('PIL', 'h5py', 'scipy') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
