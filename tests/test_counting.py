"""One is said as one: no "1 images" in what the commands print."""

from __future__ import annotations

from typing import Any

import pytest

from reinforce.counting import counted, first_of
from reinforce.curate.curate import CuratePlan
from reinforce.diff import Side
from reinforce.import_model import ImportedModel
from reinforce.pack import PackSummary
from reinforce.target_difference import TargetDifference
from train.evaluate import EvaluateResult, SegmentationResult
from train.results import LabelledResult


@pytest.mark.parametrize(
    ("number", "nouns", "said"),
    [
        pytest.param(0, ("tar",), "0 tars", id="none"),
        pytest.param(1, ("tar",), "1 tar", id="one"),
        pytest.param(2, ("tar",), "2 tars", id="two"),
        pytest.param(1, ("class", "classes"), "1 class", id="one of an own plural"),
        pytest.param(3, ("class", "classes"), "3 classes", id="an own plural"),
    ],
)
def test_a_number_has_its_noun(number: int, nouns: tuple[str, ...], said: str) -> None:
    assert counted(number, *nouns) == said


@pytest.mark.parametrize(("most", "said"), [(4, "a, b, c"), (3, "a, b, c"), (1, "a and 2 more")])
def test_the_first_of_many_names(most: int, said: str) -> None:
    assert first_of(["a", "b", "c"], most) == said


FIGURES = {"temperature": 1.0, "kl_mean": 0.1, "kl_p50": 0.1, "kl_p99": 0.1, "kl_max": 0.1, "top1_agreement": 1.0}


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (PackSummary(path="p", images=1, left_out=1, classes=None, license="x", tars=1, bytes=9),
         "p: 1 image in 1 tar, 9 B\n  left out: 1 mask or image of a kind that is not read"),
        (PackSummary(path="p", images=1, left_out=0, classes=None, license="x"), "p: would pack 1 image"),
        (CuratePlan(gallery_items=1, size=1, num_queries=1), "1 of 1 item for 1 query"),
        (Side("a", "complete", 1, 1, 1, "", None), "a: complete, 1 of 1 unit"),
        (TargetDifference(1, 1, FIGURES), "1 view of 1 unit: "),
        (ImportedModel("o", "o", "resnet18", 64, 1, ("a",), (0.0,), (1.0,), ""), "64 px, 1 class (a)"),
        (EvaluateResult("classification", "test", 1, 1.0, (0.0, 1.0)), "on 1 image of 'test'"),
        (SegmentationResult("test", 1, 1.0, (0.0, 1.0), {}, 1.0), "on 1 image of 'test'"),
        (LabelledResult("o", "m", "full", 0.1, "accuracy", 1.0, 1, 1, 1, (), "x"),
         "accuracy 100.00% on 1 image, 1 image skipped"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)  # fmt: skip
def test_one_is_said_as_one(outcome: Any, said: str) -> None:
    assert said in str(outcome)
