"""The fingerprint finds other pixels, names the stage, and lets only the same view pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from view_images import BROKEN_ROW, encode, pattern, png, small_unit

from reinforce.errors import ReplayDriftError, StoreError, TransferMismatchError
from reinforce.views import (
    Fingerprint,
    UnitReplayer,
    check,
    compare,
    dense_ops,
    fingerprint,
    make_fingerprint,
    named_policy,
    ops,
    resolve_dense_policy,
)
from reinforce.views.fingerprint import pixels_checksum
from reinforce.views.placement import Placement
from reinforce.views.policies import Policy

POLICY = named_policy("classification", size_px=24, seed=5)
CROPS = named_policy("crops", size_px=24)
Rows = list[bytes]


def units(*rows_of_unit: Rows, policy: Policy = POLICY) -> list[tuple[int, list[str], Callable[[int], bytes]]]:
    return [
        (unit, [f"{unit}/{row}" for row in range(len(rows))], rows.__getitem__)
        for unit, rows in enumerate(rows_of_unit)
    ]


def replayers(*rows_of_unit: Rows, policy: Policy = POLICY) -> Callable[[int], UnitReplayer]:
    made = {unit: UnitReplayer(policy, keys, load) for unit, keys, load in units(*rows_of_unit)}
    return made.__getitem__


PICTURES = [small_unit()[1], [png(50, 40, n) for n in range(3)]]


@pytest.fixture(scope="module")
def recorded() -> Fingerprint:
    return make_fingerprint(POLICY, units(*PICTURES), num_views=10, num_probes=48, num_kept=16)


class TestMade:
    def test_probes_are_distinct_decodable_and_spread(self, recorded: Fingerprint) -> None:
        places = [(p.unit, p.row, p.view) for p in recorded.probes]
        assert len(set(places)) == len(places)
        assert 30 <= len(places) <= 48
        assert {unit for unit, _, _ in places} == {0, 1}
        assert (0, BROKEN_ROW) not in {(unit, row) for unit, row, _ in places}
        assert len({view for _, _, view in places}) >= 8

    def test_kept_pixels_are_the_first_probes_views(self, recorded: Fingerprint) -> None:
        assert recorded.kept.shape == (16, 24, 24, 3)
        replayer = replayers(*PICTURES)
        for probe, pixels in zip(recorded.probes, recorded.kept, strict=False):
            np.testing.assert_array_equal(replayer(probe.unit).view(probe.row, probe.view), pixels)

    def test_first_probes_show_every_stage(self, recorded: Fingerprint) -> None:
        def kinds(probes: Any) -> set[str]:
            return {stage.rpartition(":")[2] for probe in probes for stage, _ in probe.stages}

        assert kinds(recorded.probes[:16]) == kinds(recorded.probes)
        assert len(kinds(recorded.probes)) == 7 + 14  # decode, params, crop, flip, erase, mixup, cutmix; 14 operations

    def test_it_is_a_pure_function(self, recorded: Fingerprint) -> None:
        again = make_fingerprint(POLICY, units(*PICTURES), num_views=10, num_probes=48, num_kept=16)
        assert again.to_json() == recorded.to_json()
        np.testing.assert_array_equal(again.kept, recorded.kept)

    def test_json_gives_it_back(self, recorded: Fingerprint) -> None:
        again = Fingerprint.from_json(json.loads(json.dumps(recorded.to_json())), recorded.kept)
        assert again.to_json() == recorded.to_json()
        assert again.probes == recorded.probes

    def test_few_views_give_few_probes(self) -> None:
        made = make_fingerprint(CROPS, units([png(9, 9)]), num_views=2, num_probes=64)
        assert [(p.row, p.view) for p in made.probes] in ([(0, 0), (0, 1)], [(0, 1), (0, 0)])
        assert len(made.kept) == 2

    def test_a_unit_without_images_gives_none(self) -> None:
        made = make_fingerprint(CROPS, units([b"", b"x"]), num_views=2)
        assert made.probes == ()
        assert made.kept.shape == (0, 24, 24, 3)

    @pytest.mark.parametrize("document", [{}, {"format": 2}, {"format": 1, "probes": [{}]}], ids=str)
    def test_foreign_json_is_refused(self, document: dict[str, Any]) -> None:
        with pytest.raises(StoreError):
            Fingerprint.from_json(document, np.empty((0, 4, 4, 3), np.uint8))


class TestChecked:
    def test_the_same_machine_is_identical(self, recorded: Fingerprint) -> None:
        report = check(recorded, replayers(*PICTURES), num=100, exact=True)
        assert report.is_identical
        assert report.num_probes == len(recorded.probes)
        assert "replay identically" in report.describe()

    @pytest.mark.parametrize("name", [op.name for op in POLICY.ops if op.name != "identity"])
    def test_a_changed_operation_is_found_and_named(
        self, recorded: Fingerprint, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = ops._OPS[name]
        monkeypatch.setitem(ops._OPS, name, lambda image, fill, *args: real(image, fill, *args).rotate(180))
        with pytest.raises(ReplayDriftError, match=f"stage '(partner:)?op[12]:{name}'"):
            check(recorded, replayers(*PICTURES))

    @pytest.mark.parametrize(
        ("place", "stage"),
        [("resize_crop", "crop"), ("flip", "flip"), ("erase", "erase"), ("mixup", "mixup"), ("cutmix", "cutmix")],
    )
    def test_every_other_stage_is_found_and_named(
        self, recorded: Fingerprint, place: str, stage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = getattr(ops, place)

        def upside_down(*args: Any) -> Any:
            result = real(*args)
            return result[::-1] if isinstance(result, np.ndarray) else result.transpose(Image.Transpose.FLIP_TOP_BOTTOM)

        monkeypatch.setattr(ops, place, upside_down)
        report = compare(recorded, replayers(*PICTURES))
        assert stage in {difference.stage.removeprefix("partner:") for difference in report.differences}
        with pytest.raises(ReplayDriftError, match="replay differently"):
            check(recorded, replayers(*PICTURES))

    def test_another_filter_is_found(self, recorded: Fingerprint, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ops, "_BILINEAR", Image.Resampling.BICUBIC)
        with pytest.raises(ReplayDriftError, match=r"stage '(partner:)?crop'"):
            check(recorded, replayers(*PICTURES))

    def test_one_other_decoded_pixel_is_found(self) -> None:
        pixels = pattern(50, 40)
        recorded = make_fingerprint(CROPS, units([encode(Image.fromarray(pixels), "PNG")]), num_views=10)
        pixels[20, 25, 1] ^= 1
        other = replayers([encode(Image.fromarray(pixels), "PNG")], policy=CROPS)
        report = compare(recorded, other)
        assert {d.stage for d in report.differences} == {"decode"}
        assert report.is_close
        with pytest.raises(ReplayDriftError, match="stage 'decode'"):
            check(recorded, other, exact=True)

    @pytest.mark.parametrize(("levels", "passes"), [(1, True), (2, True), (3, False), (40, False)])
    def test_two_levels_are_tolerated_and_recorded(self, levels: int, passes: bool) -> None:
        pixels = pattern(50, 40) // 2
        recorded = make_fingerprint(CROPS, units([encode(Image.fromarray(pixels), "PNG")]), num_views=30)
        other = replayers([encode(Image.fromarray(pixels + np.uint8(levels)), "PNG")], policy=CROPS)
        report = compare(recorded, other, num=100)
        assert report.to_json()["max_levels"] == levels
        assert report.to_json()["stages"] == ["decode"]
        assert report.is_close is passes
        if passes:
            assert not check(recorded, other).is_identical
        else:
            with pytest.raises(ReplayDriftError, match=f"by up to {levels} levels"):
                check(recorded, other)

    def test_a_difference_nobody_measured_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        recorded = make_fingerprint(POLICY, units(*PICTURES), num_views=10, num_probes=48, num_kept=0)
        real = ops.flip
        monkeypatch.setattr(ops, "flip", lambda image: real(image).point(lambda level: level ^ 1))
        with pytest.raises(ReplayDriftError, match="unknown amount"):
            check(recorded, replayers(*PICTURES))

    def test_another_decoded_size_is_never_tolerated(self) -> None:
        recorded = make_fingerprint(CROPS, units([encode(Image.new("RGB", (50, 40), "red"), "PNG")]), num_views=4)
        other = replayers([encode(Image.new("RGB", (49, 40), "red"), "PNG")], policy=CROPS)
        assert compare(recorded, other).to_json()["max_levels"] == 0
        with pytest.raises(ReplayDriftError, match="stage 'decode'"):
            check(recorded, other)

    def test_an_image_that_no_longer_decodes_is_named(self) -> None:
        recorded = make_fingerprint(CROPS, units([png(50, 40)]), num_views=4)
        with pytest.raises(ReplayDriftError, match="stage 'decode' on, the file is empty"):
            check(recorded, replayers([b""], policy=CROPS))

    def test_the_libraries_then_and_now_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        recorded = make_fingerprint(CROPS, units([png(50, 40)]), num_views=4)
        monkeypatch.setattr(fingerprint, "libraries", lambda: {**recorded.libraries, "pillow": "99.1"})
        with pytest.raises(ReplayDriftError, match=r"pillow was [\d.]+ and is 99.1"):
            check(recorded, replayers([png(50, 40, 1)], policy=CROPS))

    def test_other_keys_are_another_transfer_set(self, recorded: Fingerprint) -> None:
        swapped = {u: UnitReplayer(POLICY, k[::-1], load) for u, k, load in units(*PICTURES)}
        with pytest.raises(TransferMismatchError, match="--transfer"):
            check(recorded, swapped.__getitem__)

    def test_another_policy_is_refused(self, recorded: Fingerprint) -> None:
        with pytest.raises(StoreError, match="another view policy"):
            check(recorded, replayers(*PICTURES, policy=CROPS))


DENSE = resolve_dense_policy(
    name="dense", size_px=24, seed=5, distort_prob=0.5, blur_prob=0.5, noise_prob=0.5, rotate_prob=0.5
)


@pytest.fixture(scope="module")
def dense() -> Fingerprint:
    return make_fingerprint(DENSE, units(*PICTURES), num_views=10, num_probes=48, num_kept=16)


class TestDense:
    """The same promise for views with a valid mask, which belongs to what must be reproduced."""

    def test_probes_end_in_the_valid_mask_and_show_every_stage(self, dense: Fingerprint) -> None:
        replayer = replayers(*PICTURES, policy=DENSE)
        kinds = set()
        for probe in dense.probes:
            valid = replayer(probe.unit).valid(probe.row, probe.view)
            expected = pixels_checksum(valid.astype(np.uint8)[..., None])
            assert probe.stages[-1] == ("valid", expected)
            assert probe.stages[-2][1] == pixels_checksum(replayer(probe.unit).view(probe.row, probe.view))
            kinds |= {stage for stage, _ in probe.stages}
        assert kinds == {"decode", "params", "crop", "flip", *dense_ops._OPS, "pad", "rotate", "valid"}

    def test_the_same_machine_is_identical(self, dense: Fingerprint) -> None:
        again = Fingerprint.from_json(json.loads(json.dumps(dense.to_json())), dense.kept)
        assert check(again, replayers(*PICTURES, policy=DENSE), num=100, exact=True).is_identical

    @pytest.mark.parametrize("name", sorted(dense_ops._OPS))
    def test_a_changed_operation_is_found_and_named(
        self, dense: Fingerprint, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = dense_ops._OPS[name]
        monkeypatch.setitem(dense_ops._OPS, name, lambda image, *args: real(image, *args).rotate(180))
        with pytest.raises(ReplayDriftError, match=f"stage '{name}'"):
            check(dense, replayers(*PICTURES, policy=DENSE))

    @pytest.mark.parametrize(
        ("module", "place", "stage"), [(ops, "resize_box", "crop"), (ops, "flip", "flip"), (dense_ops, "pad", "pad")]
    )
    def test_every_other_stage_is_found(
        self, dense: Fingerprint, module: Any, place: str, stage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = getattr(module, place)
        monkeypatch.setattr(module, place, lambda *args: real(*args).transpose(Image.Transpose.FLIP_TOP_BOTTOM))
        report = compare(dense, replayers(*PICTURES, policy=DENSE))
        assert stage in {difference.stage for difference in report.differences}
        assert not report.is_close

    def test_another_valid_mask_is_never_tolerated(self, dense: Fingerprint, monkeypatch: pytest.MonkeyPatch) -> None:
        def without_a_pixel(placement: Placement) -> Any:
            valid = real(placement)
            valid[12, 12] ^= True
            return valid

        real = Placement.valid
        monkeypatch.setattr(Placement, "valid", without_a_pixel)
        report = compare(dense, replayers(*PICTURES, policy=DENSE))
        assert {difference.stage for difference in report.differences} == {"valid"}
        assert report.to_json()["max_levels"] == 0
        with pytest.raises(ReplayDriftError, match="stage 'valid'"):
            check(dense, replayers(*PICTURES, policy=DENSE))


class TestHostile:
    @pytest.mark.parametrize(
        "change",
        [
            {"unit": -1},
            {"unit": "0"},
            {"unit": 0.0},
            {"unit": 1 << 62},
            {"unit": 2},
            {"row": -1},
            {"row": None},
            {"view": 1 << 64},
            {"view": True},
            {"key": 3},
            {"stages": []},
            {"stages": "decode"},
            {"stages": [["decode", "0"]]},
            {"stages": [["decode", "0"], ["crop", "0"]]},
            {"stages": [["decode", 0], ["params", []]]},
            {"stages": [["decode"], ["params"]]},
        ],
        ids=str,
    )
    def test_probes_that_no_store_has(self, change: dict[str, Any], recorded: Fingerprint) -> None:
        document = recorded.to_json()
        document["probes"][0] |= change
        made = [UnitReplayer(POLICY, keys, load) for _, keys, load in units(*PICTURES)]
        with pytest.raises(StoreError) as caught:
            compare(Fingerprint.from_json(document, recorded.kept), made.__getitem__, 48)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("num", [2, 3, 99])
    def test_stages_cut_off_or_added_are_a_difference(self, num: int, recorded: Fingerprint) -> None:
        document = recorded.to_json()
        stages = document["probes"][0]["stages"]
        document["probes"][0]["stages"] = [*stages, ["more", "0"]] if num == 99 else stages[:num]
        report = compare(Fingerprint.from_json(document, recorded.kept), replayers(*PICTURES), 48)
        assert [difference.stage for difference in report.differences] == ["more" if num == 99 else stages[num][0]]

    @pytest.mark.parametrize(
        "kept",
        [np.zeros((16, 24, 24), np.uint8), np.zeros((16, 24, 25, 3), np.uint8), np.zeros((16, 24, 24, 3), np.float64)],
        ids=lambda kept: f"{kept.shape} {kept.dtype}",
    )
    def test_kept_pixels_that_are_no_views(self, kept: Any, recorded: Fingerprint) -> None:
        fingerprint_of_others = Fingerprint.from_json(recorded.to_json(), kept)
        with pytest.raises(StoreError, match="not views of its policy"):
            compare(fingerprint_of_others, replayers(*PICTURES))
