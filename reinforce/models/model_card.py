"""The model card: YAML that the Hugging Face Hub understands, then Markdown from a template.

Names come from outside: in YAML they are quoted, in Markdown they are code, in which nothing has a meaning.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reinforce.card_text import code as code_span
from reinforce.card_text import yaml_scalar
from reinforce.licences import HUB_LICENSES, UNKNOWN
from reinforce.models.info import ModelInfo
from reinforce.models.origin import learned_images, trainings, used_stores, weights_license

if TYPE_CHECKING:
    from jinja2 import Template

CARD = "README.md"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.A)
"""OWNER/NAME: other names would be taken for datasets of the Hub that are not there."""
CLASSES_SHOWN = 50
TASKS = {"classification": "image-classification", "segmentation": "image-segmentation"}
METRICS = {"accuracy": "accuracy", "mean_iou": "mean IoU"}


def model_card(info: ModelInfo, evaluations: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """README.md, UTF-8. `evaluations`: what `train evaluate` kept, each with data, split, subset and result."""
    lines = ["---", *_front_matter(info), "---", ""]
    return ("\n".join(lines) + "\n" + _template().render(_content(info, evaluations)) + "\n").encode()


def _front_matter(info: ModelInfo) -> Iterator[str]:
    licence = weights_license(info)
    known = licence.lower() in (*HUB_LICENSES, UNKNOWN)
    yield f"license: {licence.lower() if known else 'other'}"
    if not known:
        yield f"license_name: {yaml_scalar(licence)}"
    yield "library_name: timm"
    yield f"pipeline_tag: {TASKS[info.task]}"
    yield from _listed("tags", ["timm", TASKS[info.task], *(["distillation"] if used_stores(info) else [])])
    if (base := base_model(info)) is not None:
        yield from _listed("base_model", [base])
    yield from _listed("datasets", [name for name in data_names(info) if HUB_NAME.fullmatch(name)])


def base_model(info: ModelInfo) -> str | None:
    """Where the Hub has the weights that the model started from, which only timm's are known for."""
    source = str(info.provenance.get("source", ""))
    return f"timm/{source.removeprefix('timm:')}" if re.fullmatch(r"timm:\w+\.\w+", source) else None


def data_names(info: ModelInfo) -> list[str]:
    """Labelled images and transfer sets of all trainings."""
    names = [training.get("data") for training in trainings(info)] + [store.transfer for store in used_stores(info)]
    return list(dict.fromkeys(str(name) for name in names if name))


def code(text: object) -> str:
    """A Markdown code span, also within a table."""
    return code_span(text).replace("|", "\\|")


def _listed(name: str, values: Sequence[str]) -> list[str]:
    return [f"{name}:", *(f"- {yaml_scalar(value)}" for value in values)] if values else []


@functools.cache
def _template() -> Template:
    from jinja2 import ChainableUndefined, Environment, PackageLoader

    environment = Environment(loader=PackageLoader(__package__), autoescape=False, trim_blocks=True,
                              lstrip_blocks=True, undefined=ChainableUndefined)  # fmt: skip
    environment.filters |= {"code": code, "percent": lambda share: f"{100 * share:.2f} %"}
    return environment.get_template("model_card.md")


def _content(info: ModelInfo, evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "info": info,
        "license": weights_license(info),
        "source": info.provenance.get("source", "random weights"),
        "weights_sha256": info.provenance.get("weights_sha256", UNKNOWN),
        "trainings": list(reversed(list(trainings(info)))),
        "stores": used_stores(info),
        "images": learned_images(info),
        "figures": [figure for one in evaluations for figure in _figures(one)],
        "class_names": info.class_names[:CLASSES_SHOWN],
        "num_other_classes": max(0, len(info.class_names) - CLASSES_SHOWN),
        "unknown": UNKNOWN,
    }


def _figures(evaluation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One line of the table of figures."""
    result = evaluation["result"]
    for name, words in METRICS.items():
        if name in result:
            split = " ".join(filter(None, (evaluation["split"], evaluation["subset"])))
            yield {"data": evaluation["data"], "split": split, "metric": words, "value": result[name],
                   "interval": result.get("confidence_interval"), "num_images": result["num_images"]}  # fmt: skip
