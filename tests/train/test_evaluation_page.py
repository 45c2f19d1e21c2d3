"""`train evaluate --html`: an offline page, inert whatever the data hold, true to the masks and to the figures."""

from __future__ import annotations

import base64
import io
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reinforce.errors import OutputExistsError
from reinforce.models import create_model, save_model
from reinforce.pages.rendering import percent
from train.evaluate import EvaluateConfig, SegmentationResult, evaluate
from train.evaluation_page import class_rows, confusions, picture_of, places, spread
from train.iou import ConfusionMatrix
from train.mask_tally import MaskTally

HOSTILE = ("<script>alert(1)</script>", '"><img src=http://x.example/a onerror=alert(2)>', "</style>{{ 7 * 7 }}")


class Page(HTMLParser):
    """A parsed page: its elements, their attributes, its text and its pictures by what they show."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def pictures(self) -> dict[str, np.ndarray]:
        """alt text -> pixels."""
        found = {attrs["alt"]: attrs["src"] for tag, attrs in self.elements if tag == "img"}
        return {alt: np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
                for alt, uri in found.items()}  # fmt: skip


def write_segmenter(folder: Path, class_names: tuple[str, ...], seed: int = 0, image_size: int = 32) -> str:
    torch.manual_seed(seed)
    model, info = create_model("test_vit", class_names=class_names, image_size=image_size, task="segmentation",
                               head="linear")  # fmt: skip
    with torch.no_grad():
        for weights in model.head.parameters():  # type: ignore[union-attr]
            weights.normal_(0, 1.5)
    save_model(folder, model, info)
    return str(folder)


@pytest.fixture
def hostile(scenes: Path, tmp_path: Path) -> tuple[SegmentationResult, Page]:
    """Class names, keys and model names that would be markup, evaluated with a teacher of another input size."""
    (scenes / "classes.txt").write_text("\n".join(HOSTILE) + "\n")
    for kind in ("images", "masks"):
        folder = scenes / "test" / kind
        shutil.copy(folder / "test-0.png", folder / "<svg onload=alert(3)>.png")
    student = write_segmenter(tmp_path / "<b>student", HOSTILE)
    teacher = write_segmenter(tmp_path / "teacher", HOSTILE, seed=1, image_size=64)
    result = evaluate(EvaluateConfig(model=student, data=str(scenes), teacher=teacher, html="pages/page.html",
                                     quiet=True))  # fmt: skip
    assert isinstance(result, SegmentationResult)
    return result, Page(tmp_path / "pages" / "page.html")


def test_nothing_on_the_page_runs_or_is_loaded(hostile: tuple[SegmentationResult, Page]) -> None:
    _, page = hostile
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "svg", "b"}
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")]
        assert all(attrs[name].startswith(("data:image/", "#")) for name in ("src", "href") if name in attrs)
    policy = [attrs["content"] for tag, attrs in page.elements if "http-equiv" in attrs]
    assert policy[0].startswith("default-src 'none'")
    for name in (*HOSTILE, "<svg onload=alert(3)>", "<b>student"):
        assert name in page.text


def test_figures_are_those_of_the_evaluation(hostile: tuple[SegmentationResult, Page]) -> None:
    result, page = hostile
    assert percent(result.mean_iou) in page.text
    assert result.to_json()["html"] == "pages/page.html"
    assert str(result).endswith("wrote pages/page.html")
    for value in result.iou.values():
        assert value is not None
        assert percent(value) in page.text


def test_every_image_is_shown_with_its_mask_and_two_predictions(hostile: tuple[SegmentationResult, Page]) -> None:
    _, page = hostile
    pictures = page.pictures()
    keys = [f"test/images/test-{index}.png" for index in range(5)] + ["test/images/<svg onload=alert(3)>.png"]
    assert pictures.keys() == {
        f"{what} of {key}" for key in keys for what in ("image", "mask", "teacher", "<b>student")
    }
    assert {picture.shape for picture in pictures.values()} == {(30, 40, 3)}
    assert not np.array_equal(pictures[f"teacher of {keys[0]}"], pictures[f"<b>student of {keys[0]}"])


def test_masks_are_painted_where_they_are(scenes: Path, tmp_path: Path) -> None:
    student = write_segmenter(tmp_path / "student", ("ground", "red", "blue"))
    evaluate(EvaluateConfig(model=student, data=str(scenes), html="page.html", quiet=True))
    pictures = Page(tmp_path / "page.html").pictures()
    assert len(pictures) == 5 * 3
    painted = pictures["mask of test/images/test-2.png"].astype(int)
    mask = np.array(Image.open(scenes / "test" / "masks" / "test-2.png"))
    assert np.ptp(painted[mask == 255], axis=-1).max() == 0  # hatched: grey
    hue = [(painted[mask == label] - painted[mask == label].mean(axis=-1, keepdims=True)).mean(axis=0)
           for label in range(3)]  # fmt: skip
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(hue[first] - hue[second]).max() > 20


def test_a_page_is_replaced_only_when_told(scenes: Path, tmp_path: Path) -> None:
    student = write_segmenter(tmp_path / "student", ("ground", "red", "blue"))
    (tmp_path / "page.html").write_text("mine")
    config = {"model": student, "data": str(scenes), "html": "page.html", "quiet": True}
    with pytest.raises(OutputExistsError, match="type --overwrite"):
        evaluate(EvaluateConfig(**config))  # type: ignore[arg-type]
    assert (tmp_path / "page.html").read_text() == "mine"
    evaluate(EvaluateConfig(**config, overwrite=True))  # type: ignore[arg-type]
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def tally_of(counts: list[list[int]]) -> MaskTally:
    tally = MaskTally.empty(0, len(counts))
    tally.confusion.counts += np.array(counts)
    return tally


def test_rows_and_confusions_against_counts_by_hand() -> None:
    tally = tally_of([[6, 3, 1], [0, 0, 0], [8, 0, 2]])
    rows = class_rows(("a", "b", "c"), [tally, tally_of([[10, 0, 0], [0, 0, 0], [0, 0, 10]])])
    assert [row.share for row in rows] == [0.5, 0.0, 0.5]
    assert [row.iou for row in rows] == pytest.approx([6 / 18, 0.0, 2 / 11])
    assert [row.teacher_iou for row in rows] == [1.0, None, 1.0]
    found = [(pair.true.name, pair.predicted.name, pair.share) for pair in confusions(tally.confusion, rows)]
    assert found == [("c", "a", 0.8), ("a", "b", 0.3), ("a", "c", 0.1)]
    assert confusions(ConfusionMatrix(np.eye(3, dtype=np.int64)), rows) == []


@pytest.mark.parametrize(("old", "new", "expected"), [(4, 4, [0, 1, 2, 3]), (6, 3, [1, 3, 5]), (5, 2, [1, 3])])
def test_places_are_the_nearest_to_the_centres(old: int, new: int, expected: list[int]) -> None:
    assert places(old, new).tolist() == expected


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(30, 40, (30, 40, 3)), (448, 896, (112, 224, 3)), (1, 3000, (1, 224, 3))],
)
def test_pictures_keep_their_aspect_and_a_bound(height: int, width: int, shape: tuple[int, ...]) -> None:
    assert picture_of(Image.new("RGB", (width, height)), (height, width)).shape == shape


@pytest.mark.parametrize(("available", "expected"), [(0, []), (2, [0, 1]), (10, [0, 2, 5, 7])])
def test_shown_images_are_spread_evenly(available: int, expected: list[int]) -> None:
    assert spread(np.arange(available), 4).tolist() == expected
