from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinforce.data import LabelledSample, hash64, shortage, take
from reinforce.data.splits import Samples, base_name, carve, make_splits, part, tenth
from reinforce.errors import DataError, UsageError


def samples_of(*class_sizes: int) -> Samples:
    labels = [label for label, size in enumerate(class_sizes) for _ in range(size)]
    return tuple(LabelledSample(0, row, f"key{row}", label) for row, label in enumerate(labels))


def keys(samples: Samples) -> list[str]:
    return [sample.key for sample in samples]


def counts(samples: Samples, num_classes: int) -> list[int]:
    return [sum(sample.label == label for sample in samples) for label in range(num_classes)]


VAL_AND_TEST = {"val": tenth, "test": tenth}
CLASS_SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


class TestCarve:
    @pytest.mark.parametrize(
        ("size", "train", "val", "test"),
        [(1, 1, 0, 0), (2, 1, 1, 0), (3, 1, 1, 1), (10, 8, 1, 1), (14, 12, 1, 1), (15, 11, 2, 2), (100, 80, 10, 10)],
    )
    def test_sizes(self, size: int, train: int, val: int, test: int) -> None:
        splits = carve(samples_of(size), VAL_AND_TEST)
        assert {name: len(part) for name, part in splits.items()} == {"train": train, "val": val, "test": test}

    @given(sizes=CLASS_SIZES)
    def test_is_a_partition_in_listing_order_with_every_class_in_train(self, sizes: list[int]) -> None:
        samples = samples_of(*sizes)
        splits = carve(samples, VAL_AND_TEST)
        assert sorted(keys(splits["train"] + splits["val"] + splits["test"])) == sorted(keys(samples))
        assert all(list(part) == sorted(part, key=lambda sample: sample.row) for part in splits.values())
        assert all(counts(splits["train"], len(sizes)))

    @given(sizes=CLASS_SIZES)
    def test_val_holds_the_lowest_hashes_of_each_class(self, sizes: list[int]) -> None:
        splits = carve(samples_of(*sizes), VAL_AND_TEST)
        for label in range(len(sizes)):
            ranks = {
                name: [hash64(sample.key) for sample in part if sample.label == label] for name, part in splits.items()
            }
            assert max(ranks["val"], default=0) < min(ranks["test"], default=2**64) <= 2**64
            assert max(ranks["test"], default=0) < min(ranks["train"])

    def test_does_not_depend_on_the_order_of_the_listing(self) -> None:
        samples = samples_of(30, 12)
        assert set(carve(samples[::-1], {"val": tenth})["val"]) == set(carve(samples, {"val": tenth})["val"])

    @pytest.mark.parametrize(("share", "count", "taken"), [(0.1, 4, 0), (0.1, 5, 1), (0.2, 2500, 500), (0.7, 3, 2)])
    def test_a_part_is_rounded_to_the_nearest(self, share: float, count: int, taken: int) -> None:
        assert part(share, count) == taken

    @given(sizes=CLASS_SIZES)
    def test_a_group_is_never_cut(self, sizes: list[int]) -> None:
        samples = samples_of(*sizes)
        splits = carve(samples, VAL_AND_TEST, group=lambda key: key[:-1])
        where = {(s.label, s.key[:-1]): name for name, members in splits.items() for s in members}
        assert all(where[s.label, s.key[:-1]] == name for name, members in splits.items() for s in members)

    def test_equal_groups_of_two_classes_have_nothing_to_do_with_each_other(self) -> None:
        samples = tuple(LabelledSample(0, row, f"{row % 2}/{row // 2}.jpg", row % 2) for row in range(40))
        splits = carve(samples, {"val": lambda _: 3}, group=base_name, rest="test")
        assert {name: counts(members, 2) for name, members in splits.items()} == {"test": [17, 17], "val": [3, 3]}


class TestMakeSplits:
    @pytest.mark.parametrize(
        ("declared", "expected"),
        [
            pytest.param({None: 100}, {"train": 80, "val": 10, "test": 10}, id="none"),
            pytest.param({"train": 100}, {"train": 80, "val": 10, "test": 10}, id="train"),
            pytest.param({"train": 100, "test": 5}, {"train": 90, "val": 10, "test": 5}, id="train, test"),
            pytest.param({"train": 100, "val": 5}, {"train": 100, "val": 5}, id="train, val"),
            pytest.param({"train": 9, "val": 5, "test": 7}, {"train": 9, "val": 5, "test": 7}, id="all"),
        ],
    )
    def test_sizes(self, declared: dict[str | None, int], expected: dict[str, int]) -> None:
        words = [word for word, count in declared.items() for _ in range(count)]
        splits = make_splits(samples_of(len(words)), words, "set")
        assert {name: len(part) for name, part in splits.items()} == expected
        assert list(splits) == list(expected)

    def test_train_only_is_cut_as_if_nothing_were_declared(self) -> None:
        samples = samples_of(40, 3)
        assert make_splits(samples, ["train"] * 43, "set") == make_splits(samples, [None] * 43, "set")

    def test_without_train(self) -> None:
        with pytest.raises(DataError, match="set has test and val but no train"):
            make_splits(samples_of(2), ["val", "test"], "set")


class TestTake:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            pytest.param({}, [7, 3, 1], id="all"),
            pytest.param({"shots": 1}, [1, 1, 1], id="one a class"),
            pytest.param({"shots": 3}, [3, 3, 1], id="a class that has fewer gives all"),
            pytest.param({"shots": 99}, [7, 3, 1], id="more than there are"),
            pytest.param({"num_labelled": 99}, [7, 3, 1], id="more in all than there are"),
            pytest.param({"num_labelled": 3}, [1, 1, 1], id="as many as classes"),
            pytest.param({"limit": 8}, [7, 1, 0], id="the first"),
            pytest.param({"shots": 3, "limit": 4}, [3, 1, 0], id="the first of those"),
        ],
    )
    def test_counts_a_class(self, options: dict[str, int], expected: list[int]) -> None:
        assert counts(take(samples_of(7, 3, 1), **options), 3) == expected

    @given(sizes=CLASS_SIZES, shots=st.integers(1, 20), seed=st.integers(0, 5))
    def test_shots_take_the_lowest_ranks_in_listing_order(self, sizes: list[int], shots: int, seed: int) -> None:
        samples = samples_of(*sizes)
        expected = {
            key
            for label in range(len(sizes))
            for key in sorted(
                (sample.key for sample in samples if sample.label == label), key=lambda key: hash64(f"{seed}:{key}")
            )[:shots]
        }
        assert keys(take(samples, shots=shots, seed=seed)) == [key for key in keys(samples) if key in expected]

    @given(sizes=CLASS_SIZES, number=st.integers(1, 60))
    def test_num_labelled_gives_that_many_and_keeps_every_class_it_can(self, sizes: list[int], number: int) -> None:
        chosen = take(samples_of(*sizes), num_labelled=number)
        assert len(chosen) == min(number, sum(sizes))
        assert sum(count > 0 for count in counts(chosen, len(sizes))) >= min(number, len(sizes))

    @given(sizes=CLASS_SIZES, option=st.sampled_from(["shots", "num_labelled", "limit"]), number=st.integers(1, 30))
    def test_a_smaller_subset_lies_inside_a_larger_one(self, sizes: list[int], option: str, number: int) -> None:
        samples = samples_of(*sizes)
        smaller, larger = take(samples, **{option: number}), take(samples, **{option: number + 1})
        assert set(smaller) <= set(larger)

    def test_seeds_differ_and_repeat(self) -> None:
        samples = samples_of(50)
        assert take(samples, shots=5, seed=1) == take(samples, shots=5, seed=1) != take(samples, shots=5, seed=2)

    def test_golden(self) -> None:
        assert keys(take(samples_of(6, 6), shots=2, seed=0)) == GOLDEN_SHOTS

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"shots": 1, "num_labelled": 1}, "exclude each other"),
            ({"shots": 0}, "--shots 0 leaves no samples"),
            ({"num_labelled": -1}, "--num-labelled -1 leaves no samples"),
            ({"limit": 0}, "--limit 0 leaves no samples"),
        ],
    )
    def test_bad_numbers(self, options: dict[str, int], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            take(samples_of(3), **options)


GOLDEN_SHOTS = ["key2", "key4", "key9", "key11"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, ""),
        ({"shots": 1}, ""),
        ({"shots": 3}, "--shots 3: class 'rare' has only 1"),
        ({"shots": 4}, "--shots 4: class 'rare' has only 1 (2 classes have too few)"),
        ({"num_labelled": 11}, ""),
        ({"num_labelled": 12}, "--num-labelled 12: there are only 11 labelled images"),
    ],
)
def test_what_cannot_be_taken_is_said(asked: dict[str, int], said: str) -> None:
    assert shortage([0] * 7 + [1] * 3 + [2], ("common", "some", "rare"), **asked) == said
