"""Policies: resolved to integers once, kept as JSON, checked when made."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from view_images import jpeg, png

from reinforce.errors import StoreError, UnknownNameError, UsageError
from reinforce.views import (
    POLICY_NAMES,
    GalleryPolicy,
    Policy,
    UnitReplayer,
    ViewPolicy,
    named_policy,
    policy_from_json,
    resolve_policy,
)
from reinforce.views.tables import lambda_table, randaugment_table, ratio_table


def changed(policy: Policy, **values: Any) -> Policy:
    """With other values; of a policy of two parts in both."""
    if isinstance(policy, GalleryPolicy):
        whole, crops = (dataclasses.replace(part, **values) for part in (policy.whole, policy.crops))
        return dataclasses.replace(policy, whole=whole, crops=crops)
    return dataclasses.replace(policy, **values)


@pytest.mark.parametrize("name", POLICY_NAMES)
class TestPolicyContract:
    """What every policy keeps, whatever it does to the pixels."""

    def policy(self, name: str, **changes: Any) -> Policy:
        return named_policy(name, **{"size_px": 20, "seed": 3, **changes})

    def replayer(self, policy: Policy) -> UnitReplayer:
        rows = [jpeg(60, 40, 1), png(30, 50, 2), png(7, 9, 3)]
        return UnitReplayer(policy, ["a", "b", "c"], rows.__getitem__)

    def test_json_gives_it_back(self, name: str) -> None:
        policy = self.policy(name)
        text = json.dumps(policy.to_json())
        assert policy_from_json(json.loads(text)) == policy
        assert policy_from_json(json.loads(text)).digest() == policy.digest()

    def test_json_holds_integers_only(self, name: str) -> None:
        def leaves(value: Any) -> list[Any]:
            items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
            return [value] if items is None else [leaf for item in items for leaf in leaves(item)]

        assert {type(leaf) for leaf in leaves(self.policy(name).to_json())} <= {int, str}

    def test_digest_tells_policies_apart(self, name: str) -> None:
        policy = self.policy(name)
        others = [self.policy(name, seed=4), self.policy(name, size_px=21)]
        others += [changed(policy, fill=(0, 0, 0)), changed(policy, max_pixels=5)]
        assert len({p.digest() for p in [policy, *others]}) == 5

    def test_views_are_square_bytes_and_pure(self, name: str) -> None:
        one, other = self.replayer(self.policy(name)), self.replayer(self.policy(name))
        forward = {(row, view): one.view(row, view) for row in range(3) for view in range(4)}
        backward = {(row, view): other.view(row, view) for view in range(3, -1, -1) for row in range(2, -1, -1)}
        for place, pixels in forward.items():
            assert pixels.shape == (20, 20, 3)
            assert pixels.dtype == "uint8"
            assert pixels.tobytes() == backward[place].tobytes()

    def test_last_stage_is_the_view(self, name: str) -> None:
        replayer = self.replayer(self.policy(name))
        for view in range(6):
            stages = replayer.stages(0, view)
            assert [stage for stage, _ in stages[:2]] == ["decode", "crop"]
            assert stages[-1][1].tobytes() == replayer.view(0, view).tobytes()

    def test_views_differ_unless_for_evaluation(self, name: str) -> None:
        replayer = self.replayer(self.policy(name))
        num = 1 if name in {"center", "whole"} else 8
        assert len({replayer.view(0, view).tobytes() for view in range(8)}) == num

    def test_valid_is_a_square_mask_and_pure(self, name: str) -> None:
        one, other = self.replayer(self.policy(name)), self.replayer(self.policy(name))
        for row, view in itertools.product(range(3), range(4)):
            valid = one.valid(row, view)
            assert (valid.shape, valid.dtype) == ((20, 20), bool)
            assert valid.any()
            assert valid.all() or self.policy(name).is_dense
            np.testing.assert_array_equal(valid, other.valid(row, view))

    def test_labels_are_given_where_valid_or_refused(self, name: str) -> None:
        replayer = self.replayer(self.policy(name))
        for row, view in itertools.product(range(3), range(4)):
            width, height = replayer.original_size(row)
            mask = np.full((height, width), 7, dtype=np.uint8)
            if self.policy(name).moves_masks:
                expected = np.where(replayer.valid(row, view), 7, 255)
                np.testing.assert_array_equal(replayer.labels(row, view, mask), expected)
            else:
                with pytest.raises(UsageError, match=f"'{name}' does not move masks"):
                    replayer.labels(row, view, mask)


def test_lambda_tables_are_the_quantiles_of_the_folded_beta() -> None:
    for alpha in (0.1, 0.2, 0.4, 1.0, 3.0):
        for k, entry in enumerate(lambda_table(alpha)):
            quantile = float(stats.beta(alpha, alpha).ppf((1 + (k + 0.5) / 256) / 2))
            assert entry == pytest.approx(256 * quantile, abs=0.5 + 1e-6), (alpha, k)


def test_ratio_table_is_log_uniform() -> None:
    table = ratio_table(3 / 4, 4 / 3)
    assert (table[0], table[128], table[256]) == (49152, 65536, 87381)
    steps = [math.log(b / a) for a, b in itertools.pairwise(table)]
    assert steps == pytest.approx([steps[0]] * 256, abs=4e-5)


def test_randaugment_magnitude_9_is_torchvisions() -> None:
    table = {name: (plus, minus) for name, plus, minus in randaugment_table(224, 9)}
    assert len(table) == 14
    assert table["shear_x"] == ((5898,), (-5898,))  # 0.09
    assert table["translate_y"] == ((30,), (-30,))  # int(150 / 331 * 224 * 0.3)
    assert table["rotate"] == ((64729, 10252), (64729, -10252))  # 9 degrees
    assert table["color"] == ((325,), (187,))  # 1 +- 0.27
    assert table["posterize"] == ((7,), (7,))
    assert table["solarize"] == ((179,), (179,))  # 178.5


@pytest.mark.parametrize(("magnitude", "bits"), [(0, 8), (3, 8), (4, 7), (9, 7), (15, 6), (30, 4)])
def test_posterize_bits(magnitude: int, bits: int) -> None:
    assert dict((n, p) for n, p, _ in randaugment_table(32, magnitude))["posterize"] == (bits,)  # noqa: C402


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'classification'"):
        named_policy("classificaton", size_px=32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"size_px": 0}, "size_px is 0", id="no size"),
        pytest.param({"seed": -1}, "seed is -1", id="negative seed"),
        pytest.param({"crop_scale": (0.5, 0.1)}, "crop_scale is 0.5,0.1", id="descending scale"),
        pytest.param({"crop_scale": (0.0, 1.0)}, "crop_scale", id="empty crops"),
        pytest.param({"crop_ratio": (2.0, 1.0)}, "crop_ratio", id="descending ratio"),
        pytest.param({"flip_prob": 1.5}, "probability", id="probability over 1"),
        pytest.param({"mixup_prob": 0.6, "cutmix_prob": 0.6}, "exceed 1 together", id="mixing twice"),
        pytest.param({"magnitude": 31}, "magnitude is 31", id="magnitude"),
        pytest.param({"mixup_alpha": 0.0, "mixup_prob": 1.0}, "mixup_alpha", id="alpha"),
        pytest.param({"max_pixels": 10**9}, "max_pixels", id="limit over Pillow's"),
        pytest.param({"num_ops": 9}, "num_ops is 9", id="more ops than slots"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_policy(**{"name": "x", "size_px": 32, **settings})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": 2}, id="newer version"),
        pytest.param({"extra": 1}, id="unknown field"),
        pytest.param({"seed": 0.5}, id="float"),
        pytest.param({"crop_ratios_q16": [65536]}, id="short table"),
        pytest.param({"ops": [["sepia", [], []]], "num_ops": 1}, id="unknown op"),
        pytest.param({"ops": [["rotate", [1], [1]]], "num_ops": 1}, id="wrong arity"),
        pytest.param({"ops": 3}, id="no list"),
    ],
)
def test_foreign_json_is_refused(change: dict[str, Any]) -> None:
    document = named_policy("crops", size_px=32).to_json() | change
    with pytest.raises(StoreError):
        ViewPolicy.from_json(document)
