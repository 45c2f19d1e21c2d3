"""Deterministic splits and subsets of labelled samples, by ranks of 64-bit hashes of keys: no random generator."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from reinforce.counting import counted
from reinforce.data.keys import hash64
from reinforce.errors import DataError, UnknownNameError, UsageError

TRAIN, VAL, TEST = "train", "val", "test"
SPLIT_WORDS: Mapping[str, str] = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
"""What a user may call a split -> what it is called here."""

T = TypeVar("T")
Share = Callable[[int], int]
"""How many of the n groups of a class a split takes."""


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """One image of a source with its class id."""

    shard: int
    row: int
    key: str
    label: int


Samples = tuple[LabelledSample, ...]


def tenth(count: int) -> int:
    """A Share of 10 %, at least 1."""
    return max(1, part(0.1, count))


def part(share: float, count: int) -> int:
    """`share` of `count`, rounded to the nearest, halves up."""
    return int(count * share + 0.5)


def base_name(key: str) -> str:
    """What ranks a sample of a published set, so that its splits don't depend on where the set was unpacked."""
    return key.rpartition("/")[2]


def make_splits(samples: Sequence[LabelledSample], declared: Sequence[str | None], where: str, *,
                share: Share = tenth, group: Callable[[str], str] = str) -> dict[str, Samples]:  # fmt: skip
    """Group samples by their declared split (all or none declare one) and cut what is missing from train.

    Nothing or only train declared: val and test are cut, 80/10/10 by default. Train and test: val is cut. Train and
    val: there is no test split. Every cut is per class, of size `share` (see `carve`). Raises DataError when there is
    no train split.
    """
    groups = group_splits(samples, declared)
    if TRAIN not in groups:
        raise DataError(f"{where} has {' and '.join(sorted(groups))} but no train: call one folder or split 'train'")
    if VAL in groups:
        return groups
    missing = (VAL,) if TEST in groups else (VAL, TEST)
    splits = groups | carve(groups[TRAIN], dict.fromkeys(missing, share), group=group)
    return {name: splits[name] for name in (TRAIN, VAL, TEST)}


def group_splits(samples: Sequence[LabelledSample], declared: Sequence[str | None]) -> dict[str, Samples]:
    """Samples by declared split, train first; what declares none is train."""
    groups: dict[str, list[LabelledSample]] = defaultdict(list)
    for sample, split in zip(samples, declared, strict=True):
        groups[split or TRAIN].append(sample)
    return {name: tuple(groups[name]) for name in (TRAIN, VAL, TEST) if name in groups}


def find_split(splits: Mapping[str, T], name: str, dataset: str) -> T:
    """Raises UnknownNameError, which names the splits that there are."""
    if name not in splits:
        raise UnknownNameError(f"split of {dataset}", name, splits)
    return splits[name]


def check_no_split_twice(words: Iterable[str], where: str) -> None:
    """Raises DataError where two of `words`, all in SPLIT_WORDS, mean the same split."""
    seen: dict[str, str] = {}
    for word in sorted(words):
        if (other := seen.setdefault(SPLIT_WORDS[word], word)) != word:
            raise DataError(f"{where} has both {other}/ and {word}/, which mean the same split: keep one")


def carve(samples: Sequence[LabelledSample], shares: Mapping[str, Share], *, group: Callable[[str], str] = str,
          rest: str = TRAIN) -> dict[str, Samples]:  # fmt: skip
    """Cut the splits named by `shares` out of `samples`, class by class; what is left is called `rest`.

    Samples whose keys have the same `group` stay together. Within a class the n groups are ranked by `hash64(group)`;
    each name in turn takes the next `shares[name](n)`, as long as at least one is left. All results keep the order of
    `samples`.
    """
    split_of: dict[tuple[int, str], str] = {}
    for label, members in _by_label(samples).items():
        ranked = sorted({group(sample.key) for sample in members}, key=lambda name: (hash64(name), name))
        start = 0
        for name, share in shares.items():
            stop = min(start + share(len(ranked)), len(ranked) - 1)
            split_of |= {(label, member): name for member in ranked[start:stop]}
            start = stop
    cut: dict[str, list[LabelledSample]] = {name: [] for name in (rest, *shares)}
    for sample in samples:
        cut[split_of.get((sample.label, group(sample.key)), rest)].append(sample)
    return {name: tuple(members) for name, members in cut.items()}


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


def shortage(labels: Iterable[int], class_names: Sequence[str], *, shots: int | None = None,
             num_labelled: int | None = None) -> str:  # fmt: skip
    """In a line, what `take` cannot give of what it is asked for; "" where it can. `labels`: of all samples."""
    counts = Counter(labels)
    if num_labelled is not None and counts.total() < num_labelled:
        there = "is" if counts.total() == 1 else "are"
        return f"--num-labelled {num_labelled}: there {there} only {counted(counts.total(), 'labelled image')}"
    short = [label for label in range(len(class_names)) if shots is not None and counts[label] < shots]
    if not short:
        return ""
    fewest = min(short, key=counts.__getitem__)
    all_short = f" ({len(short)} classes have too few)" if len(short) > 1 else ""
    return f"--shots {shots}: class {class_names[fewest]!r} has only {counts[fewest]}{all_short}"


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
