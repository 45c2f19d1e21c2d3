"""Deterministic splits and subsets of labelled samples, by ranks of 64-bit hashes of keys: no random generator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reinforce.data.keys import hash64
from reinforce.errors import DataError, UsageError

TRAIN, VAL, TEST = "train", "val", "test"
SPLIT_WORDS: Mapping[str, str] = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
"""What a user may call a split -> what it is called here."""

_CARVED_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """One image of a source with its class id."""

    shard: int
    row: int
    key: str
    label: int


Samples = tuple[LabelledSample, ...]


def make_splits(samples: Sequence[LabelledSample], declared: Sequence[str | None], where: str) -> dict[str, Samples]:
    """Group samples by their declared split (all or none declare one) and cut what is missing from train.

    Nothing or only train declared: 80/10/10. Train and test: val is cut from train, 10 %. Train and val: there is no
    test split. Every cut is per class (see `carve`). Raises DataError when there is no train split.
    """
    groups = group_splits(samples, declared)
    if TRAIN not in groups:
        raise DataError(f"{where} has {' and '.join(sorted(groups))} but no train: call one folder or split 'train'")
    if VAL in groups:
        return groups
    missing = (VAL,) if TEST in groups else (VAL, TEST)
    splits = groups | carve(groups[TRAIN], missing)
    return {name: splits[name] for name in (TRAIN, VAL, TEST)}


def group_splits(samples: Sequence[LabelledSample], declared: Sequence[str | None]) -> dict[str, Samples]:
    """Samples by declared split, train first; what declares none is train."""
    groups: dict[str, list[LabelledSample]] = defaultdict(list)
    for sample, split in zip(samples, declared, strict=True):
        groups[split or TRAIN].append(sample)
    return {name: tuple(groups[name]) for name in (TRAIN, VAL, TEST) if name in groups}


def check_no_split_twice(words: Iterable[str], where: str) -> None:
    """Raises DataError where two of `words`, all in SPLIT_WORDS, mean the same split."""
    seen: dict[str, str] = {}
    for word in sorted(words):
        if (other := seen.setdefault(SPLIT_WORDS[word], word)) != word:
            raise DataError(f"{where} has both {other}/ and {word}/, which mean the same split: keep one")


def carve(samples: Sequence[LabelledSample], names: Sequence[str]) -> dict[str, Samples]:
    """Cut `names` out of `samples`, 10 % of each class for each; the rest is "train".

    Within a class of n, samples are ranked by `hash64(key)`; each name in turn takes the next max(1, round(n / 10)), as
    long as at least one is left for train. All results keep the order of `samples`.
    """
    split_of: dict[str, str] = {}
    for members in _by_label(samples).values():
        ranked = sorted((sample.key for sample in members), key=lambda key: (hash64(key), key))
        share = max(1, int(len(ranked) * _CARVED_SHARE + 0.5))
        start = 0
        for name in names:
            stop = min(start + share, len(ranked) - 1)
            split_of |= dict.fromkeys(ranked[start:stop], name)
            start = stop
    return {
        name: tuple(sample for sample in samples if split_of.get(sample.key, TRAIN) == name) for name in (TRAIN, *names)
    }


def take(
    samples: Iterable[LabelledSample],
    *,
    shots: int | None = None,
    num_labelled: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Samples:
    """A subset by seed, in the order of `samples`.

    shots: N images a class; a class that has fewer gives all (paper A.1). num_labelled: N images in all, every class
    keeping at least one where N allows. Both follow the rank `hash64(f"{seed}:{key}")`, so a smaller subset lies inside
    a larger one. limit: of what is left, the first N. Raises UsageError for both or for numbers below 1.
    """
    if shots is not None and num_labelled is not None:
        raise UsageError("--shots and --num-labelled exclude each other: give one")
    for option, number in (("--shots", shots), ("--num-labelled", num_labelled), ("--limit", limit)):
        if number is not None and number < 1:
            raise UsageError(f"{option} {number} leaves no samples: give 1 or more")
    chosen = tuple(samples)
    if shots is not None or num_labelled is not None:
        ranked = sorted(chosen, key=_rank(seed))
        kept = _first_of_each(ranked, shots) if shots is not None else _balanced(ranked)[:num_labelled]
        keys = {sample.key for sample in kept}
        chosen = tuple(sample for sample in chosen if sample.key in keys)
    return chosen[:limit]


def _rank(seed: int) -> Callable[[LabelledSample], tuple[int, str]]:
    return lambda sample: (hash64(f"{seed}:{sample.key}"), sample.key)


def _first_of_each(ranked: Sequence[LabelledSample], count: int) -> list[LabelledSample]:
    return [sample for members in _by_label(ranked).values() for sample in members[:count]]


def _balanced(ranked: Sequence[LabelledSample]) -> list[LabelledSample]:
    """The best of every class first, by rank, then all others by rank."""
    first = _first_of_each(ranked, 1)
    keys = {sample.key for sample in first}
    return first + [sample for sample in ranked if sample.key not in keys]


def _by_label(samples: Iterable[LabelledSample]) -> dict[int, list[LabelledSample]]:
    groups: dict[int, list[LabelledSample]] = defaultdict(list)
    for sample in samples:
        groups[sample.label].append(sample)
    return groups
