"""Replayed views, and the teacher's best classes for each.

B = rows, C = classes, U = rows of a unit, S = size_px
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reinforce.dataset import ReinforcedDataset
from reinforce.errors import DataError, ReinforceError
from reinforce.pages import data_uri
from reinforce.store import Store
from reinforce.store_page.targets import Choice, TargetSums, probabilities
from reinforce.views import ViewParams

TOP = 5
PICTURES_BYTES = 1_900_000
"""All pictures of a page together, before base64 makes four bytes of three."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    name: str
    probability: float
    """0..1, at temperature 1."""


@dataclass(frozen=True, kw_only=True)
class ShownView:
    index: int
    guesses: list[Guess]
    picture: str | None
    """A data URI; None where the image is not here."""
    words: str
    """What was done to the image."""


@dataclass(frozen=True, kw_only=True)
class ShownSample:
    key: str
    views: list[ShownView] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    samples: list[ShownSample]
    sums: TargetSums
    """Over the counted rows of the same units and views."""
    num_unreadable: int
    """Views whose image is not the one that the teacher saw, or is not readable here."""


def look(store: Store, dataset: ReinforcedDataset | None, choice: Choice) -> Gallery:
    """Read the chosen targets once and replay the shown views. Raises CorruptStoreError for a damaged object."""
    sums = TargetSums.empty(store.num_classes)
    samples = {(unit, row): _sample(store, unit, row) for unit, rows in choice.shown.items() for row in rows.tolist()}
    max_bytes = PICTURES_BYTES // max(1, choice.num_shown * len(choice.views))
    num_unreadable = 0
    for unit, view in choice.planes():
        logits_UC = store.read_targets(unit, view)
        sums.add(logits_UC[choice.counted[unit]])
        for row in choice.shown[unit].tolist():
            picture, words = (None, "") if dataset is None else _replayed(dataset, unit, row, view, max_bytes)
            num_unreadable += dataset is not None and picture is None
            guesses = best_classes(logits_UC[row], store.class_names)
            shown = ShownView(index=view, guesses=guesses, picture=picture, words=words)
            samples[unit, row].views.append(shown)
    return Gallery(samples=list(samples.values()), sums=sums, num_unreadable=num_unreadable)


def best_classes(logits_C: NDArray[np.float32], names: tuple[str, ...]) -> list[Guess]:
    """The five (or all) most likely classes of a row of (C,) logits."""
    p_C = probabilities(logits_C[None])[0]
    order = np.argsort(-p_C, kind="stable")[:TOP].tolist()
    return [Guess(name=names[c], probability=float(p_C[c])) for c in order]


def replay_line(dataset: ReinforcedDataset) -> str | None:
    """How the store's probe views replay on this machine; None where that cannot be said."""
    try:
        return dataset.check_replay(accept_drift=True).describe()
    except ReinforceError:
        return None


def _sample(store: Store, unit: int, row: int) -> ShownSample:
    position = store.units[unit][1] + row
    (key,) = store.keys(position, position + 1)
    return ShownSample(key=key)


def _replayed(dataset: ReinforcedDataset, unit: int, row: int, view: int, max_bytes: int) -> tuple[str | None, str]:
    """The view as a data URI and how it was made, or (None, "")."""
    replayer = dataset.replayer(unit)
    try:
        pixels_SS3 = replayer.view(row, view)
        words = in_words(replayer.params(row, view), replayer.image(row).size, dataset.size_px)
    except DataError:
        return None, ""
    return data_uri(pixels_SS3, max_bytes), words


def in_words(params: ViewParams, image_size: tuple[int, int], size_px: int) -> str:
    """ "crop 43 %, flip, posterize, CutMix 30 %": shares of the image's area, of the view's, of the partner's."""
    *_, width, height = params.crop
    parts = [f"crop {100 * width * height / (image_size[0] * image_size[1]):.0f} %"]
    parts += ["flip"] if params.flip else []
    parts += [op[0].replace("_", " ") for op in params.ops if op[0] != "identity"]
    if params.erase is not None:
        parts.append(f"erase {100 * params.erase[2] * params.erase[3] / size_px**2:.0f} %")
    if params.mix is not None and params.mix[0] == "mixup":
        parts.append(f"MixUp {100 * (256 - params.mix[2]) / 256:.0f} %")
    elif params.mix is not None:
        *_, width, height = params.mix[2]
        parts.append(f"CutMix {100 * width * height / size_px**2:.0f} %")
    return ", ".join(part.replace(" %", "\u00a0%") for part in parts)
