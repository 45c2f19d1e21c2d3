"""`reinforce inspect --html`: an offline page, inert whatever the store holds, true to its targets."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_builds import run

from reinforce.cli import command
from reinforce.command import run_group
from reinforce.dataset import open_dataset
from reinforce.models import create_model, save_model, upsample
from reinforce.pages import class_colours, css
from reinforce.pages.class_maps import HATCH_RGB
from reinforce.pages.palette import PADDING_RGB
from reinforce.pages.rendering import percent
from reinforce.store import FidelityStats, MapShape, Store
from reinforce.store.measures import Divergence
from reinforce.store_page import gallery, maps, write_store_page
from reinforce.store_page.certificate import error_bars
from reinforce.store_page.provenance import policy_rows
from reinforce.store_page.targets import MAX_CELLS, MAX_ROWS, Choice, TargetSums, class_shares, scattered, spread
from reinforce.store_page.view_words import degrees, hue_degrees, in_words, rotation_degrees
from reinforce.views import DenseParams, ViewParams, named_policy
from reinforce.views.tables import hue_table, rotation_table

HOSTILE_CLASSES = (
    "<script>alert(1)</script>",
    '"><img src=http://x.example/a onerror=alert(2)>',
    "</style><style>*{display:none}",
    "{{ 7 * 7 }}",
    "plain",
    "\u202egnp.\x00 名",
)
HOSTILE_NAMES = ("<svg onload=alert(3)>.png", "' onclick='alert(4).png", "\u202egnp.png", "javascript:alert(5).png")
BAD_NAME = "<script>alert(6).png"
POLICIES = {"rows": "classification", "maps": "segmentation"}
ROWS_ONLY = pytest.mark.parametrize("built", ["rows"], indirect=True)
MAPS_ONLY = pytest.mark.parametrize("built", ["maps"], indirect=True)
SECTIONS = {"gallery", "classes", "sureness", "certificate", "provenance", "skipped"}


class Page(HTMLParser):
    """A parsed page: its elements, their attributes, its text, and the class shares of every shown view."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.shares: list[str] = []
        self._inside = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = dict(attrs).get("class") or tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._inside == "share":
            self.shares.append(data)
            self._inside = ""

    def attributes(self, *names: str) -> list[str]:
        return [value for _, attributes in self.elements for name, value in attributes.items() if name in names]

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.elements)

    def pictures(self) -> list[bytes]:
        return [base64.b64decode(address.split(",", 1)[1]) for address in self.attributes("src")]


def is_map(built: tuple[Path, Path]) -> bool:
    return Store.open(built[0]).map_size is not None


def make_hostile_images(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(2)
    for name in (*HOSTILE_NAMES, *(f"{index:03d}.png" for index in range(30))):
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / name)
    (folder / BAD_NAME).write_bytes(b"no image")
    return folder


def make_hostile_teacher(folder: Path, task: str) -> Path:
    torch.manual_seed(3)
    options = {"head": "linear"} if task == "segmentation" else {}
    model, info = create_model("test_vit", class_names=HOSTILE_CLASSES, image_size=32, task=task, **options)
    with torch.no_grad():
        for weights in model.head.parameters():
            weights.normal_(0, 1.5)
    save_model(folder, model, info)
    return folder


@pytest.fixture(scope="module", params=POLICIES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """(store, transfer set), all of whose names are hostile; registered nowhere."""
    root = tmp_path_factory.mktemp("hostile")
    policy = POLICIES[request.param]
    make_hostile_teacher(root / "teacher", policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(root / "home"))
        images = make_hostile_images(root / "images")
        run(root / "teacher", images, out=str(root / "hostile.zarr"), policy=policy)
        yield root / "hostile.zarr", images


def inspect(store: Path, html: str, *argv: str) -> int:
    return run_group(command, ["inspect", str(store), "--html", html, *argv])


@pytest.fixture(scope="module")
def page(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Page:
    store, images = built
    path = tmp_path_factory.mktemp("page") / "page.html"
    assert inspect(store, str(path), "--transfer", str(images)) == 0
    return Page(path)


def test_nothing_on_the_page_runs_or_is_loaded(page: Page) -> None:
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    addresses = page.attributes("src", "href", "xlink:href", "srcset", "action")
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert "url(http" not in "".join(page.attributes("style"))
    (policy,) = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert page.count("style") == 1


@pytest.mark.parametrize("name", HOSTILE_CLASSES)
def test_a_hostile_class_name_is_text(name: str, page: Page) -> None:
    assert name in page.text


def test_hostile_keys_are_text(page: Page) -> None:
    assert BAD_NAME in page.text
    assert sum(name in page.text for name in HOSTILE_NAMES) >= 2  # of 34 samples 24 are shown


@ROWS_ONLY
def test_a_key_that_is_not_unicode_is_written_in_escapes(
    built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "keys", lambda self, start, stop: ["\udcff.png"] * (stop - start))
    assert inspect(built[0], "page.html", "--transfer", "./gone") == 0
    assert "\\udcff.png" in Page(Path("page.html")).text


def test_all_sections_are_there(page: Page, built: tuple[Path, Path]) -> None:
    assert set(page.attributes("id")) >= SECTIONS
    assert page.count("svg") == 4  # entropy, confidence, KL, rate-distortion
    for words in ("weights_sha256", "manifest digest", "torch", "1 of 35 images", "star", "log C"):
        assert words in page.text
    own = {
        False: ("crop_scale_q32", "on all 102 rows", "99 % of rows", "of a row, nats"),
        True: ("rotations_q16", "per pixel after upsampling, on", "99 % of pixels", "of a pixel, nats", "4 x 4 cells"),
    }
    assert [words for words in own[is_map(built)] if words not in page.text] == []


def test_a_gallery_of_replayed_views(page: Page, built: tuple[Path, Path]) -> None:
    assert page.count("article") == 24
    assert page.count("img") == 24 * 3 * (1 + is_map(built))
    assert "Replay check: 16 of 16 probe views replay identically" in page.text
    assert ("shorter side" if is_map(built) else "crop ") in page.text


@ROWS_ONLY
def test_the_best_five_are_the_softmax_of_the_stored_logits(page: Page, built: tuple[Path, Path]) -> None:
    store = Store.open(built[0])
    choice = Choice.of(store)
    expected = []
    for unit, rows in choice.shown.items():
        planes = [store.read_targets(unit, view).astype(np.float64) for view in choice.views]
        for row in rows.tolist():
            for plane in planes:
                p = np.exp(plane[row]) / np.exp(plane[row]).sum()
                expected += [percent(share) for share in sorted(p, reverse=True)[:5]]
    assert page.shares == expected


def reference_classes(store: Store, map_NC: np.ndarray) -> np.ndarray:
    """(S, S) by torch."""
    assert isinstance(store.shape, MapShape)
    map_hwC = torch.from_numpy(map_NC).reshape(store.shape.height, store.shape.width, -1)
    return upsample(map_hwC.permute(2, 0, 1)[None], store.shape.size_px)[0].argmax(0).numpy()


def shown_maps(store: Store) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """(unit, row, view, its classes (S, S)) in the page's order."""
    choice = Choice.of(store)
    for unit, rows in choice.shown.items():
        planes = [store.read_targets(unit, view) for view in choice.views]
        for row in rows.tolist():
            for view, plane in zip(choice.views, planes, strict=True):
                yield unit, row, view, reference_classes(store, plane[row])


@MAPS_ONLY
def test_the_shares_are_those_of_the_pixels_that_are_not_padding(page: Page, built: tuple[Path, Path]) -> None:
    store, images = built
    dataset = open_dataset(store, str(images))
    expected = []
    for unit, row, view, classes_SS in shown_maps(dataset.store):
        valid_SS = dataset.replayer(unit).valid(row, view)
        shares = sorted(np.bincount(classes_SS[valid_SS]) / valid_SS.sum(), reverse=True)
        expected += [percent(share) for share in shares[:5] if share]
    assert page.shares == expected


@MAPS_ONLY
def test_maps_are_painted_in_the_legend_s_colours(built: tuple[Path, Path], tmp_path: Path) -> None:
    assert inspect(built[0], "page.html", "--transfer", str(tmp_path / "gone")) == 0
    page, store = Page(Path("page.html")), Store.open(built[0])
    colours_C3 = class_colours(store.class_names)
    pictures = [np.array(Image.open(io.BytesIO(data))) for data in page.pictures()]
    seen = [classes_SS for *_, classes_SS in shown_maps(store)]
    assert all(np.array_equal(p, colours_C3[c]) for p, c in zip(pictures, seen, strict=True))
    assert {css(colours_C3[c]) for c in np.unique(seen)} <= {style[-7:] for style in page.attributes("style")}


@MAPS_ONLY
def test_padding_is_dark_and_only_padding(page: Page, built: tuple[Path, Path]) -> None:
    store, images = built
    dataset = open_dataset(store, str(images))
    pictures = page.pictures()
    for number, (unit, row, view, _) in enumerate(shown_maps(dataset.store)):
        pixels, painted = (np.array(Image.open(io.BytesIO(data))) for data in pictures[2 * number : 2 * number + 2])
        assert np.array_equal(pixels, dataset.replayer(unit).view(row, view))
        is_dark = (painted == HATCH_RGB).all(axis=2) | (painted == PADDING_RGB).all(axis=2)
        assert np.array_equal(is_dark, ~dataset.replayer(unit).valid(row, view))


def test_all_pictures_keep_within_their_budget(built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "PICTURES_BYTES", 200_000)
    assert inspect(built[0], "page.html", "--transfer", str(built[1])) == 0
    pictures = Page(Path("page.html")).pictures()
    assert len(pictures) == 24 * 3 * (1 + is_map(built))
    assert 100_000 < sum(map(len, pictures)) <= 200_000


def test_the_same_store_gives_the_same_bytes_wherever_it_lies(built: tuple[Path, Path], tmp_path: Path) -> None:
    store, images = built
    elsewhere = shutil.copytree(store, tmp_path / "deep" / store.name)
    pages = []
    for number, place in enumerate((store, store, elsewhere)):
        assert inspect(place, f"{number}.html", "--transfer", str(images)) == 0
        pages.append(Path(f"{number}.html").read_bytes())
    assert pages[0] == pages[1] == pages[2]
    for private in (str(tmp_path), str(store.parent)):
        assert private.encode() not in pages[0]


@ROWS_ONLY
def test_what_is_printed(built: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    store, images = built
    assert inspect(store, "page.html", "--transfer", str(images)) == 0
    assert "\n  page      page.html\n" in capsys.readouterr().out
    assert inspect(store, "page.html", "--transfer", str(images), "--overwrite", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["page"], found["page_without_pictures"], found["status"]) == ("page.html", None, "complete")


@ROWS_ONLY
def test_a_page_is_replaced_only_when_told(built: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    Path("page.html").write_text("mine")
    assert inspect(built[0], "page.html") == 2
    assert capsys.readouterr().err == (
        "reinforce: page.html exists: type --overwrite to replace it or --html to write elsewhere\n"
    )
    assert Path("page.html").read_text() == "mine"
    assert inspect(built[0], "page.html", "--overwrite", "--transfer", str(built[1])) == 0
    assert Path("page.html").read_text().startswith("<!doctype html>")


@ROWS_ONLY
def test_no_page_is_put_into_the_store(built: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(built[0], str(built[0] / "page.html")) == 2
    assert "lies inside the store" in capsys.readouterr().err
    assert run_group(command, ["verify", str(built[0]), "--level", "quick"]) == 0


def test_without_the_transfer_set_a_page_without_pictures(
    built: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    assert inspect(built[0], "page.html", "--transfer", str(gone)) == 0
    assert f"page.html without pictures: {gone} is not there" in capsys.readouterr().out
    page = Page(Path("page.html"))
    num_maps = 24 * 3 * is_map(built)
    assert (page.count("img"), page.count("article")) == (num_maps, 24)
    assert (len(page.shares) == 24 * 3 * 5) != is_map(built)  # a map need not have five classes
    assert "Without pictures: The transfer set 'images' was not at hand" in page.text
    assert str(gone) not in page.text


@ROWS_ONLY
def test_without_the_place_of_the_transfer_set_a_page_without_pictures(
    built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its object store cannot be reached, or refuses."""
    pytest.importorskip("obstore")
    for name, value in (("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_SKIP_SIGNATURE", "true"),
                        ("REINFORCE_RETRIES", "0")):  # fmt: skip
        monkeypatch.setenv(name, value)
    assert inspect(built[0], "page.html", "--transfer", "s3://bucket/images") == 0
    assert "page.html without pictures: cannot list s3://bucket/images: no connection" in capsys.readouterr().out
    assert "Without pictures: The transfer set 'images' was not at hand" in Page(Path("page.html")).text


@ROWS_ONLY
def test_with_another_transfer_set_a_page_without_pictures(built: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "others" / "a.png")
    assert inspect(built[0], "page.html", "--transfer", str(tmp_path / "others")) == 0
    assert "are not those that the store was built from" in Page(Path("page.html")).text


def test_a_replaced_image_has_no_picture(built: tuple[Path, Path], tmp_path: Path) -> None:
    store, images = built
    mine = shutil.copytree(images, tmp_path / "images")
    shutil.copy(mine / "000.png", mine / "001.png")
    for path in sorted(mine.glob("01*.png")):
        shutil.copy(mine / "000.png", path)
    assert inspect(store, "page.html", "--transfer", str(mine)) == 0
    page = Page(Path("page.html"))
    num_maps = 24 * 3 * is_map(built)
    assert num_maps < page.count("img") < num_maps + 24 * 3
    assert "views have no picture" in page.text


@ROWS_ONLY
def test_without_matplotlib_one_line(
    built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert inspect(built[0], "page.html") == 2
    assert capsys.readouterr().err == (
        "reinforce: inspect --html needs matplotlib: pip install 'reinforce-vision[report]'\n"
    )
    assert run_group(command, ["inspect", str(built[0])]) == 0


def test_an_unfinished_store_is_to_be_finished(teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(teacher, images, shard="1/2")
    capsys.readouterr()
    assert inspect(Path("out.zarr"), "page.html") == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--resume" in err
    assert not Path("page.html").exists()


def test_an_older_store_has_no_curve(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
    try:
        import tiny_reinforced as tiny
    finally:
        sys.path.pop(0)
    images = tiny.write_images(tmp_path / "coloured", count=20)
    tiny.build_store(tmp_path / "coloured.zarr", images)
    write_store_page(tmp_path / "coloured.zarr", Path("page.html"), transfer=str(images))
    page = Page(Path("page.html"))
    assert "No rate-distortion curve" in page.text
    assert "None: every image has its targets." in page.text
    assert page.count("svg") == 3


@ROWS_ONLY
def test_the_console_script(built: tuple[Path, Path], tmp_path: Path) -> None:
    store, images = built
    script = Path(sys.executable).parent / "reinforce"
    argv = [script, "inspect", store, "--html", "page.html", "--transfer", images]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "page.html" in done.stdout
    assert not done.stderr
    assert inspect(store, "mine.html", "--transfer", str(images)) == 0
    assert (tmp_path / "page.html").read_bytes() == Path("mine.html").read_bytes()


def test_the_rows_looked_at_are_real_spread_and_bounded(built: tuple[Path, Path]) -> None:
    store = Store.open(built[0])
    choice = Choice.of(store)
    states = store.states().reshape(store.num_units, -1)
    num_cells = 16 if is_map(built) else 1
    counted = {unit: rows // num_cells for unit, rows in choice.counted.items()}
    for rows_of in (choice.shown, counted):
        assert all((states[unit][local] == 0).all() for unit, local in rows_of.items())
    assert all((np.diff(rows) > 0).all() for rows in choice.counted.values())
    num_counted = sum(map(len, choice.counted.values()))
    assert num_counted == min(34 * num_cells, (MAX_CELLS if is_map(built) else MAX_ROWS) // 3)
    assert (choice.num_shown, choice.views) == (24, [0, 1, 2])
    ok_rows = np.flatnonzero(store.states() == 0)
    shown = [unit * store.unit_rows + row for unit, rows in choice.shown.items() for row in rows.tolist()]
    assert shown == ok_rows[spread(24, len(ok_rows))].tolist()
    assert spread(3, 9).tolist() == [1, 4, 7]
    assert spread(4, 2).tolist() == [0, 1]


@pytest.mark.parametrize(("num", "total"), [(0, 0), (0, 5), (5, 3), (3, 5), (7, 7), (97, 1000), (1000, 1 << 30)])
def test_scattered_positions_have_one_in_each_part(num: int, total: int) -> None:
    positions = scattered(num, total)
    num = min(num, total)
    parts = [(part * total // num, (part + 1) * total // num) for part in range(num)]
    assert len(positions) == num
    assert all(first <= place < end for (first, end), place in zip(parts, positions.tolist(), strict=True))


def test_scattered_cells_come_from_all_columns_alike() -> None:
    width = 28
    cells = scattered(7168, 28 * width * 256)  # one cell in 28
    columns = np.bincount(cells % width, minlength=width)
    assert columns.min() > 0.9 * 7168 / width


@pytest.mark.parametrize("block_values", [1, 7 * 32 * 32, 1 << 20], ids=["a class at a time", "7", "all at once"])
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 1), (40, 33)])
def test_likely_classes_against_torch(
    size: tuple[int, int], block_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "_BLOCK_VALUES", block_values)
    height, width = size
    map_hwC = np.random.default_rng(0).normal(0, 2, (height, width, 19)).astype(np.float32)
    shape = MapShape(19, height, width, 32)
    found = maps.likely_classes(map_hwC.reshape(-1, 19), shape, maps.picture_places(32))
    expected = upsample(torch.from_numpy(map_hwC).permute(2, 0, 1)[None], 32)[0].argmax(0).numpy()
    assert (found == expected).mean() > 0.999  # ties in the last bit
    assert found.shape == (32, 32)


def test_a_map_of_many_classes_is_looked_at_within_bounded_memory() -> None:
    num_classes, size_px = 512, 448
    map_NC = np.random.default_rng(0).normal(size=(4, num_classes)).astype(np.float32)
    places = maps.picture_places(size_px)
    tracemalloc.start()
    maps.likely_classes(map_NC, MapShape(num_classes, 2, 2, size_px), places)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < len(places) ** 2 * num_classes * 4 / 2


@pytest.mark.parametrize("size_px", [1, 32, 224, 225, 512, 4096])
def test_a_picture_s_pixels_stand_for_places_spread_over_the_view(size_px: int) -> None:
    places = maps.picture_places(size_px)
    assert len(places) == min(size_px, 224)
    centres = (np.arange(len(places)) + 0.5) * size_px / len(places)
    assert (np.abs(places + 0.5 - centres) <= 0.5).all()


def test_shares_entropy_and_confidence_against_a_plain_reference() -> None:
    logits_BC = np.random.default_rng(0).normal(0, 3, (500, 7)).astype(np.float32)
    sums = TargetSums.empty(7)
    sums.add(logits_BC[:200])
    sums.add(logits_BC[200:])
    p_BC = np.exp(logits_BC.astype(np.float64))
    p_BC /= p_BC.sum(axis=1, keepdims=True)
    assert sums.num_rows == 500
    np.testing.assert_allclose(sums.entropy, -(p_BC * np.log(p_BC)).sum(axis=1), rtol=1e-10)
    np.testing.assert_allclose(sums.confidence, p_BC.max(axis=1))
    shares = class_shares(sums, tuple("abcdefg"))
    assert [s.name for s in shares] == ["abcdefg"[c] for c in np.argsort(-p_BC.mean(axis=0))]
    np.testing.assert_allclose([s.expected for s in shares], np.sort(p_BC.mean(axis=0))[::-1])
    assert sum(s.most_likely for s in shares) == pytest.approx(1)


def test_the_bars_of_kl_hold_every_row_between_their_edges() -> None:
    rng = np.random.default_rng(0)
    logits_BC = rng.normal(0, 2, (400, 5))
    stats = FidelityStats.of(logits_BC, logits_BC + rng.normal(0, 0.01, (400, 5)), Divergence(1.0))
    edges, counts = error_bars(stats.histogram)
    assert sum(counts) == 400
    assert len(edges) == len(counts) + 1 <= 50
    assert edges == sorted(edges)
    assert edges[0] <= stats.percentile(0) <= edges[-1]
    assert edges[-2] <= stats.worst <= edges[-1]


def test_a_row_view_in_words() -> None:
    params = ViewParams(
        crop=(0, 0, 20, 10), flip=True, ops=(("shear_x", 1), ("identity",)), erase=(0, 0, 4, 4), mix=("mixup", 1, 192)
    )
    words = in_words(params, (40, 10), 8).replace("\u00a0", " ")
    assert words == "crop 50 %, flip, shear x, erase 25 %, MixUp 25 %"


def test_a_dense_view_in_words() -> None:
    params = DenseParams(
        box=(10, 0, 30, 40),
        content=(0, 12, 15, 20),
        flip=True,
        ops=(
            ("brightness", 288),
            ("contrast", 128),
            ("saturation", 256),
            ("hue", *hue_table(18)[0]),
            ("blur", 2),
            ("noise", 4434, 7),
        ),
        rotate=None,
    )
    words = in_words(params, (60, 40), 32).replace("\u00a0", " ")
    assert words == (
        "shorter side 20 px, flip, brightness ×1.12, contrast ×0.50, saturation ×1.00, hue −18°, blur 2 px, "
        "noise σ 10, padding 71 %"
    )


def test_a_whole_turned_view_in_words() -> None:
    params = DenseParams(box=(0, 0, 64, 64), content=(0, 0, 32, 32), flip=False, ops=(), rotate=rotation_table(10)[-1])
    words = in_words(params, (64, 64), 32).replace("\u00a0", " ")
    assert words.startswith("shorter side 32 px, rotation +10°, padding ")  # what the rotation uncovers


@pytest.mark.parametrize("most", [10.0, 18.0, 45.0])
def test_angles_are_those_that_the_tables_were_made_of(most: float) -> None:
    for found, table in ((hue_degrees, hue_table(most)), (rotation_degrees, rotation_table(most))):
        np.testing.assert_allclose([found(*entry) for entry in table], np.linspace(-most, most, len(table)), atol=0.03)


@pytest.mark.parametrize(("angle", "text"), [(-3.2, "−3°"), (9.6, "+10°"), (0.4, "0°"), (-0.4, "0°")])
def test_degrees_in_words(angle: float, text: str) -> None:
    assert degrees(angle) == text


@pytest.mark.parametrize(
    ("policy", "known"),
    [
        ("classification", {"flip_q32": "0.5", "size_px": "64", "cutmix_q32": "0.5"}),
        (
            "segmentation",
            {
                "kind": "dense",
                "short_px": "32, 96",
                "noise_q32": "0.1",
                "brightness_q8": "0.875 to 1.12",
                "hues_q12": "−18° to +18°, 73 entries",
                "rotations_q16": "−10° to +10°, 81 entries",
            },
        ),
        ("whole", {"short_px": "none", "hues_q12": "none", "rotations_q16": "none", "contrast_q8": "none"}),
    ],
)
def test_a_policy_s_integers_as_real_numbers(policy: str, known: dict[str, str]) -> None:
    document = named_policy(policy, size_px=64).to_json()
    rows = policy_rows(document)
    assert {name for name, *_ in rows} == document.keys()
    assert all(meaning for *_, meaning in rows)
    values = {name: value for name, value, _ in rows}
    assert {name: values.get(name) for name in known} == known
