"""`README.md`: YAML that the Hugging Face Hub understands for data sets, then Markdown from a template.

The template may put any value anywhere: a string that is not `Words` becomes a code span.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from reinforce.card_text import Words, bibtex_text, code, yaml_scalar
from reinforce.licences import OTHER
from reinforce.store.card.subject import Subject
from reinforce.store.codecs.kept_top1 import TOP1
from reinforce.store.schema import FORMAT, PROBES, TargetArray
from reinforce.store.shapes import DENSE_LOGITS, EMBEDDINGS, LOGITS, TEXT_FEATURES, MapShape, TargetShape

if TYPE_CHECKING:
    from jinja2 import Template

CLASSES_SHOWN = 20
_TASKS = {LOGITS: "image-classification", DENSE_LOGITS: "image-segmentation", TEXT_FEATURES: "feature-extraction"}
_USES = {
    TEXT_FEATURES: "train pretrain --method clip-affinity --cache IMAGES.zarr --text-cache STORE.zarr",
    EMBEDDINGS: "reinforce curate --query DATA --shots 10 --gallery STORE.zarr --size N --out curated",
}
_DISTILL = "train distill --cache STORE.zarr --transfer IMAGES --out runs/student"


def readme(subject: Subject) -> bytes:
    """Front matter and text, UTF-8."""
    lines = ["---", *_front_matter(subject), "---", ""]
    return ("\n".join(lines) + "\n" + _template().render(_content(subject)) + "\n").encode()


def _front_matter(subject: Subject) -> Iterator[str]:
    """Fields of the Hub's dataset cards; these know no base model, so the teacher's architecture is a tag."""
    licences = subject.licences
    yield from _listed("license", licences.hub)
    if licences.hub == (OTHER,):
        yield f"license_name: {yaml_scalar(licences.name)}"
    yield f"pretty_name: {yaml_scalar(subject.title)}"
    yield from _listed("task_categories", [_TASKS.get(subject.schema.target, "image-feature-extraction")])
    yield from _listed("size_categories", [size_category(subject.schema.num_samples)])
    yield from _listed("annotations_creators", ["machine-generated"])
    yield from _listed("source_datasets", [subject.transfer("name")])
    yield from _listed("tags", subject.tags)
    yield "viewer: false"


def _listed(name: str, values: tuple[str, ...] | list[str]) -> list[str]:
    return [f"{name}:", *(f"- {yaml_scalar(value)}" for value in values)]


def size_category(count: int) -> str:
    """The Hub's word for so many samples, such as "10K<n<100K"."""
    if count < 1000:
        return "n<1K"
    words = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
    power = (len(str(count)) - 1) - 3
    return f"{words[power]}<n<{words[power + 1]}"


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader(__package__), undefined=StrictUndefined, autoescape=False,
                              trim_blocks=True, lstrip_blocks=True, finalize=_written)  # fmt: skip
    environment.filters |= {"count": lambda value: Words(f"{value:,}"), "figure": lambda value: Words(f"{value:.3g}")}
    return environment.get_template("README.md")


def _written(value: Any) -> Any:
    return code(value) if isinstance(value, str) and not isinstance(value, Words) else value


def _content(subject: Subject) -> dict[str, Any]:
    schema, manifest = subject.schema, subject.manifest
    return {
        "subject": subject,
        "schema": schema,
        "certificate": manifest.certificate,
        "measure": schema.measure.prefix,
        "licences": subject.licences,
        "heading": Words(f"Targets of {code(subject.teacher('name'))} for {code(subject.transfer('name'))}"),
        "title": Words(bibtex_text(subject.title)),
        "kind": Words(schema.target.replace("-", " ")),
        "items": Words("captions" if schema.target == TEXT_FEATURES else "images"),
        "width": Words(next(iter(schema.width_json))),
        "cells": _cells(schema.shape),
        "class_names": schema.class_names[:CLASSES_SHOWN],
        "num_skipped": len(manifest.skipped),
        "num_bytes": manifest.num_bytes,
        "has_probes": PROBES in manifest.objects,
        "environment": [(Words(bibtex_text(name)), value) for name, value in subject.environment],
        "use": Words(_USES.get(schema.target, _DISTILL)),
        "needs_images": schema.target not in _USES,
        "arrays": [Words(_reading(name, array)) for name, array in schema.target_arrays(subject.codec).items()],
        "calibration": [Words(name) for name in sorted(schema.calibration)],
        "formula": Words(subject.codec.formula),
        "digest": Words(subject.content_digest),
        "short_digest": Words(subject.content_digest[:12]),
        "plan_digest": Words(manifest.plan_digest),
        "keeps_top1": TOP1 in schema.codec_parameters,
        "format": FORMAT,
        "comma": Words(", "),
    }


def _cells(shape: TargetShape) -> Words | None:
    return Words(f"{shape.height} x {shape.width}") if isinstance(shape, MapShape) else None


def _reading(name: str, array: TargetArray) -> str:
    """A line of Python that reads the part of an array which one view of one unit is made from."""
    view = ["view"] if array.spec.per_view else []
    return f'{name} = targets["{name}"][{", ".join([*view, "rows" if array.spec.per_row else "unit"])}]'
