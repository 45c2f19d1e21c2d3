"""`train evaluate --html` of a classifier: worst mistakes, classes, confusions and a teacher, as counted by hand."""

from __future__ import annotations

import base64
import io
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import complaints, needs_browser
from PIL import Image

from reinforce.errors import ModelError, OutputExistsError, UsageError
from reinforce.models import create_model, save_model
from reinforce.pages.rendering import percent
from train.classification_page import Agreement, class_rows, confusions
from train.classifier import Answers
from train.evaluate import EvaluateConfig, EvaluateResult, evaluate


class Page(HTMLParser):
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
        found = {attrs["alt"]: attrs["src"] for tag, attrs in self.elements if tag == "img"}
        return {alt: np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
                for alt, uri in found.items()}  # fmt: skip


def write_classifier(folder: Path, class_names: tuple[str, ...], seed: int = 0, image_size: int = 32) -> str:
    torch.manual_seed(seed)
    model, info = create_model("test_vit", class_names=class_names, image_size=image_size)
    with torch.no_grad():
        model.head.weight.normal_(0, 1.5)  # type: ignore[union-attr, operator]
    save_model(folder, model, info)
    return str(folder)


def measured(data: Path, student: str, **options: Any) -> tuple[EvaluateResult, Page]:
    result = evaluate(EvaluateConfig(model=student, data=str(data), html="page.html", workers=0, quiet=True, **options))
    assert isinstance(result, EvaluateResult)
    return result, Page(Path("page.html"))


def answers_of(labels: list[int], logits: list[list[float]]) -> Answers:
    answers = Answers()
    for rows in (slice(0, 2), slice(2, None)):
        targets = torch.nn.functional.one_hot(torch.tensor(labels[rows]), 3).float()
        answers.add(torch.tensor(logits[rows]), targets, range(5)[rows])
    return answers


LABELS = [0, 0, 1, 1, 1]
STUDENT = [[3.0, 0, 0], [0, 2.0, 0], [0, 5.0, 0], [4.0, 0, 0], [0, 0, 1.0]]
TEACHER = [[3.0, 0, 0], [2.0, 0, 0], [0, 0, 5.0], [4.0, 0, 0], [0, 1.0, 0]]


def test_answers_by_hand() -> None:
    answers = answers_of(LABELS, STUDENT)
    assert answers.labels.tolist() == LABELS
    assert answers.predicted.tolist() == [0, 1, 1, 0, 2]
    assert (answers.num_images, answers.accuracy) == (5, 0.4)
    probs = torch.softmax(torch.tensor(STUDENT), dim=1).numpy()
    assert answers.confidence == pytest.approx(probs.max(axis=1))
    assert answers.of_label == pytest.approx(probs[range(5), LABELS])
    assert answers.confusion(3).tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]


def test_classes_and_confusions_by_hand() -> None:
    student, teacher = answers_of(LABELS, STUDENT), answers_of(LABELS, TEACHER)
    rows = class_rows(("a", "b", "c"), [student, teacher])
    assert [row.name for row in rows] == ["b", "a", "c"]
    assert [row.recall for row in rows] == pytest.approx([1 / 3, 1 / 2, None])
    assert [row.precision for row in rows] == [0.5, 0.5, 0.0]
    assert [row.teacher_recall for row in rows] == pytest.approx([1 / 3, 1.0, None])
    assert class_rows(("a", "b", "c"), [student])[0].teacher_recall is None
    found = confusions(student.confusion(3), ("a", "b", "c"))
    assert [(one["label"], one["predicted"], one["count"]) for one in found] == [("a", "b", 1), ("b", "a", 1),
                                                                                ("b", "c", 1)]  # fmt: skip
    assert found[0]["share"] == 0.5


def test_agreement_by_hand() -> None:
    agreement = Agreement.of(answers_of(LABELS, STUDENT), answers_of(LABELS, TEACHER))
    assert agreement == Agreement(both_right=0.2, student_right=0.2, teacher_right=0.4, both_wrong=0.2, same=0.4)


def test_nothing_on_the_page_runs_or_is_loaded(colours: Path, tmp_path: Path) -> None:
    for folder, name in zip(("blue", "green"), ("<svg onload=alert(3)>", "{{ 7 * 7 }}"), strict=True):
        (colours / "test" / folder).rename(colours / "test" / name)
        for split in ("train", "val"):
            (colours / split / folder).rename(colours / split / name)
    names = tuple(sorted(("<svg onload=alert(3)>", "{{ 7 * 7 }}", "red")))
    student = write_classifier(tmp_path / "<b>student", names)
    _, page = measured(colours, student, teacher=write_classifier(tmp_path / "teacher", names, seed=1, image_size=64))
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "svg", "b"}
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")]
        assert all(attrs[name].startswith(("data:image/", "#")) for name in ("src", "href") if name in attrs)
    for name in (*names, "<b>student"):
        assert name in page.text


def test_mistakes_are_shown_as_the_model_saw_them(colours: Path, tmp_path: Path) -> None:
    result, page = measured(colours, write_classifier(tmp_path / "student", ("blue", "green", "red")))
    pictures = page.pictures()
    assert len(pictures) == result.num_images - round(result.accuracy * result.num_images) > 0
    (key, seen), *_ = pictures.items()
    original = np.array(Image.open(next(colours.rglob(Path(key).name))).resize((32, 32), Image.Resampling.BILINEAR))
    assert seen.shape == (32, 32, 3)
    assert np.abs(seen.astype(int) - original).mean() < 8
    assert percent(result.accuracy) in page.text
    assert "Beside the teacher" not in page.text
    assert str(result).endswith("\nwrote page.html")


def test_a_teacher_beside_its_own_weights_agrees(colours: Path, tmp_path: Path) -> None:
    student = write_classifier(tmp_path / "student", ("blue", "green", "red"))
    shutil.copytree(student, tmp_path / "teacher")
    result, page = measured(colours, student, teacher=str(tmp_path / "teacher"))
    assert "The same answer on 100.0 % of all images" in page.text
    assert page.text.count(percent(result.accuracy)) >= 3
    again = evaluate(EvaluateConfig(model=student, data=str(colours), workers=0, quiet=True))
    assert again.to_json() == {key: value for key, value in result.to_json().items() if key != "html"}


def test_pages_and_teachers_are_checked_before_any_work(colours: Path, tmp_path: Path) -> None:
    student = write_classifier(tmp_path / "student", ("blue", "green", "red"))
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(OutputExistsError, match="type --overwrite"):
        measured(colours, student)
    assert (tmp_path / "page.html").read_text() == "mine"
    save_model(tmp_path / "bare", *create_model("test_efficientnet"))
    made = create_model("test_vit", class_names=("a", "b", "c"), image_size=32, task="segmentation", head="linear")
    save_model(tmp_path / "seg", *made)
    with pytest.raises(ModelError, match="has no classifier"):
        measured(colours, student, teacher=str(tmp_path / "bare"), overwrite=True)
    with pytest.raises(UsageError, match="is a model of segmentation"):
        measured(colours, student, teacher=str(tmp_path / "seg"), overwrite=True)
    assert (tmp_path / "page.html").read_text() == "mine"


@needs_browser
@pytest.mark.slow
def test_a_browser_has_nothing_to_complain_about(colours: Path, tmp_path: Path) -> None:
    student = write_classifier(tmp_path / "student", ("blue", "green", "red"))
    measured(colours, student, teacher=write_classifier(tmp_path / "teacher", ("blue", "green", "red"), seed=1))
    assert complaints(tmp_path / "page.html", tmp_path / "profile") == []
