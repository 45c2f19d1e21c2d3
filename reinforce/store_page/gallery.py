"""Replayed views, and what the teacher says of each: of a row its best classes, of a map the classes of its pixels.

N = cells, C = classes, U = rows of a unit, S = size_px
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reinforce.dataset import ReinforcedDataset
from reinforce.errors import DataError, ReinforceError
from reinforce.pages import class_colours, css, data_uri
from reinforce.store import FEATURES, MapShape, Store
from reinforce.store_page.likeness import Likeness
from reinforce.store_page.maps import ClassMap
from reinforce.store_page.targets import Choice, TargetSums, probabilities
from reinforce.store_page.view_words import in_words

TOP = 5
LEGEND_SHOWN = 24
PICTURES_BYTES = 1_900_000
"""All pictures of a page together, before base64 makes four bytes of three."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    name: str
    share: float
    """0..1: of a row the probability at temperature 1, of a map the share of the pixels."""
    colour: str | None = None
    """ "#rrggbb", in maps."""


@dataclass(frozen=True, kw_only=True)
class ShownView:
    index: int
    guesses: list[Guess]
    picture: str | None
    """A data URI; None where the image is not here."""
    map_picture: str | None
    """A data URI of the map's classes; None for a row."""
    words: str
    """What was done to the image."""
    likeness: float | None = None
    """Cosine of a feature with that of the sample's first view shown; None for logits."""


@dataclass(frozen=True, kw_only=True)
class ShownSample:
    key: str
    views: list[ShownView] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    samples: list[ShownSample]
    sums: TargetSums
    """Of logits: over the counted rows, or cells, of the same units and views."""
    num_unreadable: int
    """Views whose image is not the one that the teacher saw, or is not readable here."""
    legend: list[Guess]
    """The classes that take most of all maps' pixels; empty for rows."""
    num_other_seen: int
    """Classes that take pixels but are not in the legend."""
    likeness: Likeness
    """Of features."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A view as a student sees it."""

    pixels: NDArray[np.uint8]
    """(S, S, 3)."""
    valid: NDArray[np.bool_]
    """(S, S), False where the view shows no image."""
    words: str


def look(store: Store, dataset: ReinforcedDataset | None, choice: Choice) -> Gallery:
    """Read the chosen targets once and replay the shown views. Raises CorruptStoreError for a damaged object."""
    sums = TargetSums.empty(store.num_channels)
    samples = {(unit, row): _sample(store, unit, row) for unit, rows in choice.shown.items() for row in rows.tolist()}
    show = _Shower(store, choice.num_shown * len(choice.views), has_views=dataset is not None)
    num_unreadable = 0
    for unit, view in choice.planes():
        targets = store.read_targets(unit, view)
        if store.target not in FEATURES:
            sums.add(targets.reshape(-1, store.num_channels)[choice.counted[unit]])
        for row in choice.shown[unit].tolist():
            replayed = None if dataset is None else _replayed(dataset, unit, row, view)
            num_unreadable += dataset is not None and replayed is None
            sample = samples[unit, row]
            sample.views.append(show.view(view, sample.key, targets[row], replayed))
    legend, num_others = show.legend()
    return Gallery(
        samples=list(samples.values()),
        sums=sums,
        num_unreadable=num_unreadable,
        legend=legend,
        num_other_seen=num_others,
        likeness=show.likeness,
    )


def best_classes(logits_C: NDArray[np.float32], names: tuple[str, ...]) -> list[Guess]:
    """The five (or all) most likely classes of a row of (C,) logits."""
    p_C = probabilities(logits_C[None])[0]
    return [Guess(name=names[c], share=float(p_C[c])) for c in _largest(p_C, TOP)]


def replay_line(dataset: ReinforcedDataset) -> str | None:
    """How the store's probe views replay on this machine; None where that cannot be said."""
    try:
        return dataset.check_replay(accept_drift=True).describe()
    except ReinforceError:
        return None


class _Shower:
    """Views and targets -> what the gallery shows, within the page's budget; counts the pixels of each class."""

    def __init__(self, store: Store, num_views: int, *, has_views: bool) -> None:
        self.names, self.shape = store.class_names, store.shape
        self.is_features = store.target in FEATURES
        self.is_map = isinstance(self.shape, MapShape) and not self.is_features
        self.likeness = Likeness()
        self.max_bytes = PICTURES_BYTES // max(1, num_views * (has_views + self.is_map))
        self.colours_C3 = class_colours(self.names)
        self.pixels_C = np.zeros(len(self.names), np.int64)

    def view(self, index: int, key: str, target: NDArray[np.float32], replayed: Replayed | None) -> ShownView:
        picture = None if replayed is None else data_uri(replayed.pixels, self.max_bytes)
        words = "" if replayed is None else replayed.words
        if self.is_features:
            likeness = self.likeness.add(key, target)
            return ShownView(index=index, guesses=[], picture=picture, map_picture=None, words=words, likeness=likeness)
        map_picture, guesses = self._map(target, replayed) if self.is_map else (None, best_classes(target, self.names))
        return ShownView(index=index, guesses=guesses, picture=picture, map_picture=map_picture, words=words)

    def legend(self) -> tuple[list[Guess], int]:
        """The classes with most pixels so far, and how many others have any."""
        shown = self._shares(self.pixels_C, LEGEND_SHOWN)
        return shown, int((self.pixels_C > 0).sum()) - len(shown)

    def _map(self, map_NC: NDArray[np.float32], replayed: Replayed | None) -> tuple[str, list[Guess]]:
        assert isinstance(self.shape, MapShape)
        classes = ClassMap.of(map_NC, self.shape, None if replayed is None else replayed.valid)
        painted = classes.painted(self.colours_C3, None if replayed is None else replayed.pixels)
        pixels_C = classes.count()
        self.pixels_C += pixels_C
        return data_uri(painted, self.max_bytes), self._shares(pixels_C, TOP)

    def _shares(self, pixels_C: NDArray[np.int64], limit: int) -> list[Guess]:
        """Of the classes that have pixels."""
        total = int(pixels_C.sum())
        largest = (c for c in _largest(pixels_C, limit) if pixels_C[c])
        return [
            Guess(name=self.names[c], share=int(pixels_C[c]) / total, colour=css(self.colours_C3[c])) for c in largest
        ]


def _largest(values_C: NDArray[np.float64] | NDArray[np.int64], limit: int) -> Iterable[int]:
    """Indices, ties in their order."""
    order: list[int] = np.argsort(-values_C, kind="stable")[:limit].tolist()
    return order


def _sample(store: Store, unit: int, row: int) -> ShownSample:
    position = store.units[unit][1] + row
    (key,) = store.keys(position, position + 1)
    return ShownSample(key=key)


def _replayed(dataset: ReinforcedDataset, unit: int, row: int, view: int) -> Replayed | None:
    """None where the image is not the one that the teacher saw, or cannot be read."""
    replayer, view = dataset.replayer(unit), dataset.store.first_view + view
    try:
        words = in_words(replayer.params(row, view), replayer.image(row).size, dataset.size_px)
        return Replayed(pixels=replayer.view(row, view), valid=replayer.valid(row, view), words=words)
    except DataError:
        return None
