"""Replaying units: one decode a row, the same pixels in any order, memory, process; bad rows by the rule."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import view_oracles
from view_images import BROKEN_ROW, png, replayed_checksums, small_unit

from reinforce.errors import MissingDataError, UndecodableImageError
from reinforce.views import UnitReplayer, named_policy, view_params

POLICY = named_policy("classification", size_px=24, seed=5)


def unit_replayer(budget_bytes: int = 64 << 20) -> tuple[UnitReplayer, Counter[int]]:
    keys, rows = small_unit()
    loads: Counter[int] = Counter()

    def load(row: int) -> bytes:
        loads[row] += 1
        return rows[row]

    return UnitReplayer(POLICY, keys, load, budget_bytes), loads


def test_one_decode_serves_all_views() -> None:
    replayer, loads = unit_replayer()
    for view in range(12):
        for row in set(range(8)) - {BROKEN_ROW}:
            replayer.view(row, view)
    assert loads == Counter(range(8))


def test_budget_bounds_what_is_kept_but_not_the_pixels() -> None:
    plenty, _ = unit_replayer()
    scarce, loads = unit_replayer(budget_bytes=1)
    for row, view in [(0, 0), (1, 0), (2, 0), (0, 0), (2, 7), (7, 3), (0, 1)]:
        np.testing.assert_array_equal(scarce.view(row, view), plenty.view(row, view))
    assert loads[0] > 1


def test_views_belong_to_the_caller() -> None:
    replayer, _ = unit_replayer()
    first = replayer.view(0, 0)
    expected = first.copy()
    first[:] = 0
    for row in (1, 2, 3):
        replayer.view(row, 0)
    np.testing.assert_array_equal(replayer.view(0, 0), expected)


def test_mixed_views_blend_two_finished_views() -> None:
    replayer, _ = unit_replayer()
    single = UnitReplayer(named_policy("randaugment", size_px=24, seed=5), *_keys_and_load())
    kinds: Counter[str] = Counter()
    for row, view in [(row, view) for row in (0, 1, 2, 3) for view in range(10)]:
        mix = replayer.params(row, view).mix
        own, expected = single.view(row, view), replayer.view(row, view)
        kinds[mix[0] if mix else "none"] += 1
        if mix:
            own = view_oracles.mixed(own, single.view(mix[1], view), list(mix))
        np.testing.assert_array_equal(own, expected)
    assert set(kinds) == {"mixup", "cutmix", "none"}


def _keys_and_load() -> tuple[list[str], object]:
    keys, rows = small_unit()
    return keys, rows.__getitem__


class TestBadRows:
    def test_a_bad_row_has_no_views_and_is_decoded_once(self) -> None:
        replayer, loads = unit_replayer()
        for view in range(3):
            with pytest.raises(UndecodableImageError, match="broken JPEG"):
                replayer.view(BROKEN_ROW, view)
        assert loads == Counter([BROKEN_ROW])
        assert "broken JPEG" in str(replayer.undecodable_reason(BROKEN_ROW))
        assert replayer.undecodable_reason(0) is None

    def test_a_bad_partner_leaves_the_view_unmixed(self) -> None:
        replayer, _ = unit_replayer()
        single = UnitReplayer(named_policy("randaugment", size_px=24, seed=5), *_keys_and_load())
        num_rows = len(replayer.keys)
        hits = 0
        for row, view in [(row, view) for row in (0, 1, 2) for view in range(40)]:
            drawn = view_params(POLICY, replayer.keys[row], view, replayer.image(row).size, num_rows, row)
            if drawn.mix is not None and drawn.mix[1] == BROKEN_ROW:
                hits += 1
                assert replayer.params(row, view).mix is None
                np.testing.assert_array_equal(replayer.view(row, view), single.view(row, view))
                assert replayer.stages(row, view)[-1][0] not in {"mixup", "cutmix"}
        assert hits >= 5

    def test_missing_data_is_another_matter(self) -> None:
        def load(row: int) -> bytes:
            raise MissingDataError("gone")

        with pytest.raises(MissingDataError):
            UnitReplayer(POLICY, ["a", "b"], load).view(0, 0)


def test_stages_come_in_order_and_only_where_something_is_done() -> None:
    replayer, _ = unit_replayer()
    order = ["decode", "crop", "flip", "op1", "op2", "erase", "partner", "mixup", "cutmix"]
    seen: set[str] = set()
    for view in range(30):
        params = replayer.params(0, view)
        names = [stage for stage, _ in replayer.stages(0, view)]
        plain = [name.partition(":")[0] for name in names]
        assert plain == sorted(plain, key=order.index)
        assert ("flip" in plain) == params.flip
        assert [name.partition(":")[2] for name in names if name.startswith("op")] == [op[0] for op in params.ops]
        assert ("erase" in plain) == (params.erase is not None)
        seen |= set(plain)
    assert seen == set(order)


def test_params_and_policies_cross_processes() -> None:
    replayer, _ = unit_replayer()
    params = replayer.params(0, 3)
    assert pickle.loads(pickle.dumps(params)) == params
    assert pickle.loads(pickle.dumps(POLICY)) == POLICY


@pytest.mark.parametrize("policy", ["classification", "segmentation"])
def test_another_process_order_and_memory_replays_the_same_bytes(policy: str) -> None:
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parent.parent}{os.pathsep}{here}", "PYTHONHASHSEED": "77"}
    command = [sys.executable, str(here / "view_images.py"), policy, "200", "100000", "9"]
    elsewhere = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(elsewhere.stdout) == replayed_checksums(policy, 200, 64 << 20, 1)


def test_tiny_images_have_views() -> None:
    replayer = UnitReplayer(POLICY, ["a", "b"], [png(1, 1), png(1, 300)].__getitem__)
    for row, view in [(0, 0), (1, 0), (0, 1), (1, 1)]:
        assert replayer.view(row, view).shape == (24, 24, 3)
