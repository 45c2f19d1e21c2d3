"""The page of an evaluated segmentation model: pictures of masks, IoU by class, what is taken for what.

C classes, H, W an image's own size, L the size of a picture, at most MAX_SIDE_PX a side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from reinforce.data import IGNORE, MaskedDataset, MaskedSample
from reinforce.pages import MAX_SIDE_PX, class_colours, css, data_uri, paint_classes, render, write_page
from reinforce.pages.rendering import count, percent

from train.evaluate import matched_by_name
from train.iou import ConfusionMatrix
from train.mask_tally import MaskTally
from train.segmenter import Segmenter

if TYPE_CHECKING:
    from train.evaluate import EvaluateConfig, SegmentationResult

NUM_SHOWN = 16
LEGEND_SHOWN, CONFUSIONS_SHOWN = 40, 12
PICTURES_BYTES = 1_900_000
"""All pictures of a page together, before base64 makes four bytes of three."""
PIXELATED_PX = 96
"""Images under this size are shown as the squares that they are."""

Mask = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class ClassRow:
    name: str
    colour: str
    iou: float | None
    teacher_iou: float | None
    share: float
    """Of all labelled pixels, 0..1."""


@dataclasses.dataclass(frozen=True)
class Picture:
    what: str
    uri: str
    accuracy: float | None = None
    """Share of the image's labelled pixels that are right, of a prediction."""


@dataclasses.dataclass(frozen=True)
class ShownImage:
    key: str
    pictures: list[Picture]


@dataclasses.dataclass(frozen=True)
class Confusion:
    true: ClassRow
    predicted: ClassRow
    share: float
    """Of the true class's pixels, 0..1."""


def show_segmentation(dataset: MaskedDataset, samples: Sequence[MaskedSample], segmenters: Sequence[Segmenter],
                      tallies: Sequence[MaskTally]) -> dict[str, Any]:  # fmt: skip
    """What a page shows of an evaluation, as plain JSON.

    `segmenters`, with their `tallies` over all samples, are the student and, if given, its teacher.
    """
    rows = class_rows(dataset.class_names, tallies)
    by_size = sorted(rows, key=lambda row: -row.share)
    chosen = spread(np.flatnonzero(tallies[0].seen), NUM_SHOWN)
    views = segmenters[0].views(dataset, samples)
    return {
        "student": _described(segmenters[0]),
        "teacher": _described(segmenters[1]) if len(segmenters) > 1 else None,
        "num_images": tallies[0].num_images,
        "legend": [dataclasses.asdict(row) for row in by_size[:LEGEND_SHOWN]],
        "num_not_in_legend": len(rows[LEGEND_SHOWN:]),
        "gallery": [dataclasses.asdict(show(int(row), dataset, samples, segmenters)) for row in chosen],
        "is_pixelated": all(max(views.mask(int(row)).shape) <= PIXELATED_PX for row in chosen),
        "classes": [dataclasses.asdict(row) for row in by_size],
        "confusions": [dataclasses.asdict(pair) for pair in confusions(tallies[0].confusion, rows)],
    }


def write_segmentation_page(config: EvaluateConfig, result: SegmentationResult, dataset: MaskedDataset,
                            shown: dict[str, Any], tallies: Sequence[MaskTally]) -> None:  # fmt: skip
    """Write --html of what `show_segmentation` gave. Raises OutputExistsError, UsageError."""
    assert config.html is not None
    page = render(
        "evaluation.html",
        package="train",
        task="segmentation",
        data_name=dataset.name,
        split=result.split,
        num_images=result.num_images,
        notes=matched_by_name(result.matched_by_name),
        tiles=_tiles(result, tallies),
        shown=shown,
    )  # fmt: skip
    write_page(Path(config.html), page, overwrite=config.overwrite)


def class_rows(names: Sequence[str], tallies: Sequence[MaskTally]) -> list[ClassRow]:
    """Every class, by id; of the first tally, and of the second as the teacher's."""
    student, teacher = tallies[0].confusion, tallies[1].confusion if len(tallies) > 1 else None
    true_C = student.counts.sum(axis=1)
    share_C = true_C / max(int(true_C.sum()), 1)
    absent = (None,) * len(names)
    columns = zip(names, class_colours(names), student.iou, teacher.iou if teacher else absent, share_C,
                  strict=True)  # fmt: skip
    return [
        ClassRow(name, css(colour), iou, of_teacher, float(share)) for name, colour, iou, of_teacher, share in columns
    ]


def confusions(confusion: ConfusionMatrix, rows: Sequence[ClassRow]) -> list[Confusion]:
    """The pairs of different classes that share most pixels, largest first."""
    wrong = confusion.counts * ~np.eye(len(rows), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_SHOWN]
    pairs = [divmod(int(place), len(rows)) for place in order if wrong.flat[place] > 0]
    true_C = confusion.counts.sum(axis=1)
    return [Confusion(rows[true], rows[other], float(wrong[true, other] / true_C[true])) for true, other in pairs]


def show(row: int, dataset: MaskedDataset, samples: Sequence[MaskedSample],
         segmenters: Sequence[Segmenter]) -> ShownImage:  # fmt: skip
    """One image, its mask, the teacher's and the student's masks as pictures."""
    views = segmenters[0].views(dataset, samples)
    truth = views.mask(row)
    pixels = picture_of(views.replayer.image(row), truth.shape)
    max_bytes = PICTURES_BYTES // (NUM_SHOWN * (2 + len(segmenters)))
    colours = class_colours(dataset.class_names)

    def painted(mask: Mask) -> str:
        small = mask[places(mask.shape[0], len(pixels))][:, places(mask.shape[1], pixels.shape[1])]
        picture = paint_classes(small, colours, under_HW3=pixels, valid_HW=small != IGNORE)
        return data_uri(picture, max_bytes)

    pictures = [Picture("image", data_uri(pixels, max_bytes)), Picture("mask", painted(truth))]
    for segmenter in reversed(segmenters):
        (mask,) = segmenter.masks(segmenter.views(dataset, samples).load(np.array([row]), 0))
        predicted = mask.numpy()
        right = (predicted == truth)[truth != IGNORE]
        pictures.append(Picture(segmenter.name, painted(predicted), float(right.mean()) if right.size else None))
    return ShownImage(samples[row].key, pictures)


def picture_of(image: Image.Image, shape_HW: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8 (L, L', 3): the image, at most MAX_SIDE_PX a side, with the aspect of its mask."""
    height, width = shape_HW
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(image.resize(size, Image.Resampling.LANCZOS))


def places(old: int, new: int) -> NDArray[np.int64]:
    """For every pixel of an axis of a picture, the pixel under its centre."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the rows, evenly."""
    chosen = min(count, len(rows))
    return rows[np.arange(chosen) * len(rows) // max(chosen, 1)]


def _tiles(result: SegmentationResult, tallies: Sequence[MaskTally]) -> list[tuple[str, str]]:
    low, high = result.confidence_interval
    of_teacher = [("teacher's mean IoU", percent(tally.confusion.mean_iou)) for tally in tallies[1:]]
    return [
        ("mean IoU", percent(result.mean_iou)),
        ("95 % interval", f"{100 * low:.1f} – {100 * high:.1f} %"),
        *of_teacher,
        ("pixels right", percent(result.pixel_accuracy)),
        ("images", count(result.num_images)),
        ("classes", count(len(result.iou))),
    ]


def _described(segmenter: Segmenter) -> dict[str, Any]:
    info = segmenter.info
    return {"name": segmenter.name, "architecture": info.architecture, "image_size": info.image_size}
