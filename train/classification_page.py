"""The page of an evaluated classifier: worst mistakes with their pictures, classes, confusions, a teacher beside it.

C classes, N images that could be decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from reinforce.data import LabelledDataset, LabelledSample
from reinforce.pages import data_uri, render, write_page
from reinforce.pages.rendering import count, percent

from train.classifier import Answers, Classifier
from train.evaluate import matched_by_name

if TYPE_CHECKING:
    from train.evaluate import EvaluateConfig, EvaluateResult

MISTAKES_SHOWN, CONFUSIONS_SHOWN, CLASSES_SHOWN = 24, 15, 200
LARGEST_MATRIX = 24
"""Classes of a confusion matrix that is shown whole."""
PICTURES_BYTES = 1_900_000
"""All pictures of a page together, before base64 makes four bytes of three."""
PIXELATED_PX = 96
"""Views under this size are shown as the squares that they are."""


@dataclasses.dataclass(frozen=True)
class ClassRow:
    name: str
    count: int
    """Images of this class."""
    recall: float | None
    """Share of its images that are taken for it; None for a class without images."""
    precision: float | None
    """Share of what is taken for it that is it; None where nothing is."""
    teacher_recall: float | None


@dataclasses.dataclass(frozen=True)
class Mistake:
    key: str
    uri: str
    label: str
    predicted: str
    confidence: float
    of_label: float
    teacher: str | None
    """What the teacher says, where there is one."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Shares of all images, which sum to 1; `same` of them have the same answer, right or wrong."""

    both_right: float
    student_right: float
    teacher_right: float
    both_wrong: float
    same: float

    @classmethod
    def of(cls, student: Answers, teacher: Answers) -> Agreement:
        ours, theirs = student.predicted == student.labels, teacher.predicted == teacher.labels
        return cls(*(float(rows.mean()) for rows in (ours & theirs, ours & ~theirs, ~ours & theirs, ~ours & ~theirs,
                                                     student.predicted == teacher.predicted)))  # fmt: skip


def show_classification(dataset: LabelledDataset, samples: Sequence[LabelledSample],
                        classifiers: Sequence[Classifier], answers: Sequence[Answers]) -> dict[str, Any]:  # fmt: skip
    """What a page shows of an evaluation, as plain JSON.

    `samples` are the N that were decoded, `classifiers` and `answers` those of the student and of its teacher, if any.
    """
    names, matrix_CC = dataset.class_names, answers[0].confusion(len(dataset.class_names))
    rows = class_rows(names, answers)
    return {
        "student": _described(classifiers[0]),
        "teacher": _described(classifiers[1]) if len(classifiers) > 1 else None,
        "mistakes": [dataclasses.asdict(one) for one in mistakes(dataset, samples, classifiers, answers)],
        "num_mistakes": answers[0].num_images - answers[0].num_correct,
        "is_pixelated": classifiers[0].info.image_size <= PIXELATED_PX,
        "agreement": dataclasses.asdict(Agreement.of(answers[0], answers[1])) if len(answers) > 1 else None,
        "classes": [dataclasses.asdict(row) for row in rows[:CLASSES_SHOWN]],
        "num_other_classes": len(rows[CLASSES_SHOWN:]),
        "names": list(names) if len(names) <= LARGEST_MATRIX else [],
        "matrix": matrix_CC.tolist() if len(names) <= LARGEST_MATRIX else [],
        "totals": matrix_CC.sum(axis=1).tolist() if len(names) <= LARGEST_MATRIX else [],
        "confusions": confusions(matrix_CC, names),
    }


def write_classification_page(config: EvaluateConfig, result: EvaluateResult, dataset: LabelledDataset,
                              shown: dict[str, Any], answers: Sequence[Answers]) -> None:  # fmt: skip
    """Write --html of what `show_classification` gave. Raises OutputExistsError, UsageError."""
    assert config.html is not None
    page = render(
        "evaluation.html",
        package="train",
        task=result.task,
        data_name=dataset.name,
        split=result.split,
        num_images=result.num_images,
        notes=matched_by_name(result.matched_by_name),
        tiles=_tiles(result, answers, shown["agreement"], len(dataset.class_names)),
        shown=shown,
    )  # fmt: skip
    write_page(Path(config.html), page, overwrite=config.overwrite)


def class_rows(names: Sequence[str], answers: Sequence[Answers]) -> list[ClassRow]:
    """Worst recognised first; classes without images last."""
    matrices = [one.confusion(len(names)) for one in answers]
    rows = []
    for index, name in enumerate(names):
        recalls = [_share(matrix[index, index], matrix[index].sum()) for matrix in matrices]
        precision = _share(matrices[0][index, index], matrices[0][:, index].sum())
        rows.append(ClassRow(name, int(matrices[0][index].sum()), recalls[0], precision, (*recalls, None)[1]))
    return sorted(rows, key=lambda row: (row.recall is None, row.recall or 0.0))


def confusions(matrix_CC: NDArray[np.int64], names: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs of different classes with most images, largest first."""
    wrong = matrix_CC * ~np.eye(len(names), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_SHOWN]
    pairs = [divmod(int(place), len(names)) for place in order if wrong.flat[place] > 0]
    return [{"label": names[label], "predicted": names[other], "count": int(wrong[label, other]),
             "share": float(wrong[label, other] / matrix_CC[label].sum())} for label, other in pairs]  # fmt: skip


def mistakes(dataset: LabelledDataset, samples: Sequence[LabelledSample], classifiers: Sequence[Classifier],
             answers: Sequence[Answers]) -> list[Mistake]:  # fmt: skip
    """The images whose label is least likely, as the student sees them; worst first."""
    student, names = answers[0], dataset.class_names
    wrong = np.flatnonzero(student.predicted != student.labels)
    worst = wrong[np.argsort(student.of_label[wrong], kind="stable")][:MISTAKES_SHOWN]
    views = classifiers[0].views(dataset, samples)
    return [
        Mistake(
            key=samples[row].key,
            uri=data_uri(views.replayer.view(row, 0), PICTURES_BYTES // MISTAKES_SHOWN),
            label=names[student.labels[row]],
            predicted=names[student.predicted[row]],
            confidence=float(student.confidence[row]),
            of_label=float(student.of_label[row]),
            teacher=names[answers[1].predicted[row]] if len(answers) > 1 else None,
        )
        for row in worst.tolist()
    ]


def _tiles(result: EvaluateResult, answers: Sequence[Answers], agreement: dict[str, float] | None,
           num_classes: int) -> list[tuple[str, str]]:  # fmt: skip
    low, high = result.confidence_interval
    return [
        ("accuracy", percent(result.accuracy)),
        ("95 % interval", f"{100 * low:.1f} – {100 * high:.1f} %"),
        *[("teacher's accuracy", percent(one.accuracy)) for one in answers[1:]],
        *([("agreement", percent(agreement["same"]))] if agreement else []),
        ("images", count(result.num_images)),
        ("classes", count(num_classes)),
    ]


def _described(classifier: Classifier) -> dict[str, Any]:
    info = classifier.info
    return {"name": classifier.name, "architecture": info.architecture, "image_size": info.image_size}


def _share(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
