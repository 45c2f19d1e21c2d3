"""Every codec keeps one contract, and each agrees with a slow reference. R = rows, C = classes, V = views."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_stores import EveryAxisCodec

from reinforce.errors import CorruptStoreError, StoreError, UnknownNameError, UsageError
from reinforce.store.choose import (
    MARGIN,
    SUITED,
    CodecRequest,
    bytes_per_view,
    calibrate,
    codec_name,
    families,
    mean_error,
)
from reinforce.store.codecs import Fp16Codec, Int8Codec, codec_record, load_codec, named_codec, view_arrays
from reinforce.store.codecs.kept_top1 import KeptTop1
from reinforce.store.codecs.klt import KltCodec, KltFamily
from reinforce.store.codecs.packing import RADICES, Packing
from reinforce.store.codecs.rounding import QUICK_SWEEPS, SWEEPS
from reinforce.store.codecs.sqrt_p import SqrtPCodec, SqrtPFamily
from reinforce.store.codecs.top_k import TopKCodec, TopKFamily
from reinforce.store.measures import CosineDistance, Divergence
from reinforce.store.shapes import (
    DENSE_LOGITS,
    EMBEDDINGS,
    FEATURES,
    GLOBAL_FEATURES,
    LOGITS,
    PATCH_FEATURES,
    TARGETS,
    TEXT_FEATURES,
    MapShape,
    RowShape,
)

RNG = np.random.default_rng(5)
FLAT_VRC = RNG.normal(size=(3, 16, 7)).astype(np.float32)
PEAKY_VRC = (RNG.gumbel(size=(2, 64, 100)) * 4).astype(np.float32)
TEACHER_VRC = (RNG.normal(size=(1, 400, 6)) @ RNG.normal(size=(6, 40)) + 0.4 * RNG.normal(size=(3, 400, 40))).astype(
    np.float32
)
"""Like a teacher's: classes go together, and the views of an image are alike."""


def decode_unit(codec, targets_VRC, **options):
    encoded = codec.encode(targets_VRC, **options)
    views = range(len(targets_VRC))
    return np.stack([codec.decode(view_arrays(codec, encoded, v, targets_VRC.shape[-1])) for v in views])


def kl_of(codec, targets_VRC, **options):
    """(V, R) KL of every row."""
    decoded_VRC = decode_unit(codec, targets_VRC, **options)
    flat = (-1, targets_VRC.shape[-1])
    return Divergence(1.0).errors(targets_VRC.reshape(flat), decoded_VRC.reshape(flat)).reshape(targets_VRC.shape[:2])


HOSTILE = [-1, 0, True, 10**400, 1e300, math.nan, "1", None, [], [1, 2], [1 << 30] * 5, [True] * 5]


class CodecContract:
    max_kl = 1e-3
    targets = (FLAT_VRC, PEAKY_VRC, FLAT_VRC[:1, :1])

    def make(self, logits_VRC):
        raise NotImplementedError

    def again(self, codec, parameters):
        return load_codec(codec.name, parameters, codec.calibration(), 7)

    @pytest.mark.parametrize("which", range(3), ids=["flat", "peaky", "one row"])
    def test_decodes_within_its_fidelity(self, which):
        targets_VRC = self.targets[which]
        decoded_VRC = decode_unit(self.make(targets_VRC), targets_VRC)
        assert decoded_VRC.dtype == np.float32
        assert decoded_VRC.shape == targets_VRC.shape
        assert kl_of(self.make(targets_VRC), targets_VRC).mean() < self.max_kl

    def test_arrays_have_the_declared_types_and_shapes(self):
        codec = self.make(FLAT_VRC)
        encoded = codec.encode(FLAT_VRC)
        specs = codec.arrays(7)
        assert encoded.keys() == specs.keys()
        for name, spec in specs.items():
            assert encoded[name].dtype == spec.dtype, name
            assert encoded[name].shape == spec.unit_shape(3, 16), name

    def test_encoding_is_deterministic_and_leaves_its_input_alone(self):
        codec = self.make(FLAT_VRC)
        before = FLAT_VRC.copy()
        first, second = codec.encode(FLAT_VRC), codec.encode(FLAT_VRC)
        assert all(first[name].tobytes() == second[name].tobytes() for name in first)
        assert np.array_equal(before, FLAT_VRC)

    def test_is_a_function_of_its_parameters_and_calibration(self):
        codec = self.make(FLAT_VRC)
        again = self.again(codec, json.loads(json.dumps(codec.parameters())))
        first, second = codec.encode(FLAT_VRC), again.encode(FLAT_VRC)
        assert all(first[name].tobytes() == second[name].tobytes() for name in first)

    def test_views_that_come_later_keep_what_others_share(self):
        codec = self.make(FLAT_VRC)
        stored = codec.encode(FLAT_VRC[:2])
        shared = {name: stored[name] for name, spec in codec.arrays(7).items() if not spec.per_view}
        later = codec.encode(FLAT_VRC[2:], level=1, shared=shared)
        assert all(later[name].tobytes() == shared[name].tobytes() for name in shared)
        decoded_RC = codec.decode(view_arrays(codec, later, 0, 7))
        assert Divergence(1.0).errors(FLAT_VRC[2], decoded_RC).mean() < 2 * self.max_kl

    def test_no_parameter_may_be_hostile(self):
        codec = self.make(FLAT_VRC)
        for name, value in codec.parameters().items():
            for hostile in HOSTILE:
                if hostile is value or hostile == value or (hostile is None and name in ("image_digits", "rounding")):
                    continue
                with pytest.raises(CorruptStoreError):
                    load_codec(codec.name, codec.parameters() | {name: hostile}, codec.calibration(), 7)

    def test_is_refused_for_another_number_of_classes(self):
        codec = self.make(FLAT_VRC)
        if codec.calibration() or "num_classes" in codec.parameters():
            with pytest.raises(CorruptStoreError):
                load_codec(codec.name, codec.parameters(), codec.calibration(), 8)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_refuses_what_is_not_finite(self, bad):
        targets_VRC = FLAT_VRC.copy()
        targets_VRC[1, 2, 3] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            self.make(FLAT_VRC).encode(targets_VRC)

    def test_a_row_of_equal_logits_stays_one(self):
        codec, flat = self.make(FLAT_VRC + np.arange(7, dtype=np.float32)), np.zeros((1, 4, 7), np.float32)
        assert kl_of(codec, flat, spilled_VR=np.ones((1, 4), np.bool_)).max() < self.max_kl

    def test_spilled_rows_are_nearly_exact_and_leave_the_others_alone(self):
        codec = self.make(FLAT_VRC)
        spilled_VR = np.zeros(FLAT_VRC.shape[:2], np.bool_)
        spilled_VR[1, 3] = spilled_VR[2] = True
        if codec.can_spill:
            assert kl_of(codec, FLAT_VRC, spilled_VR=spilled_VR)[spilled_VR].max() < 1e-4
        plain, mixed = decode_unit(codec, FLAT_VRC), decode_unit(codec, FLAT_VRC, spilled_VR=spilled_VR)
        assert np.array_equal(plain[~spilled_VR], mixed[~spilled_VR])


class TestFp16(CodecContract):
    max_kl = 1e-6

    def make(self, logits_VRC):
        return Fp16Codec()

    def test_equals_a_slow_reference(self):
        for row in PEAKY_VRC[0]:
            decoded = Fp16Codec().decode({"values": Fp16Codec().encode(row[None, None])["values"][0]})[0]
            assert decoded.tolist() == [float(np.float16(np.float32(z) - row.max())) for z in row]

    @settings(deadline=None)
    @given(arrays(np.float32, (3, 6), elements=st.floats(-1e4, 1e4, width=32)))
    def test_keeps_the_arg_max(self, logits_RC):
        decoded_RC = decode_unit(Fp16Codec(), logits_RC[None])[0]
        chosen = np.take_along_axis(logits_RC, decoded_RC.argmax(axis=1)[:, None], axis=1)[:, 0]
        assert (logits_RC.max(axis=1) - chosen <= 2.0**-24).all()

    def test_refuses_a_range_beyond_half_precision(self):
        with pytest.raises(ValueError, match="span more than 65504"):
            Fp16Codec().encode(np.array([[[0, 7e4]]], np.float32))

    def test_refuses_to_decode_infinity(self):
        with pytest.raises(ValueError, match="infinity"):
            Fp16Codec().decode({"values": np.full((2, 2), np.inf, np.float16)})


class TestCoarseInt8(CodecContract):
    max_kl = 2e-2

    def make(self, logits_VRC):
        return Int8Codec(20)


class TestInt8(CodecContract):
    def make(self, logits_VRC):
        return Int8Codec()

    def test_equals_a_slow_reference(self):
        encoded = Int8Codec().encode(PEAKY_VRC)
        for row, codes, step in zip(PEAKY_VRC[0], encoded["codes"][0], encoded["steps"][0], strict=True):
            high, low = float(row.max()), float(row.min())
            expected = np.float16((high - low) / 254)
            if float(expected) < (high - low) / 254:
                expected = np.nextafter(expected, np.float16(np.inf))
            middle = np.float32((high + low) / 2)
            assert step == expected
            assert codes.tolist() == [round(float((z - middle) / np.float32(step))) for z in row]

    @settings(deadline=None)
    @given(
        arrays(
            np.float32,
            (1, 4, 5),
            elements=st.floats(-(2.0**100), 2.0**100, width=32).map(lambda x: math.remainder(x, 1e5)),
        )
    )
    def test_errs_by_half_a_step_at_most(self, targets_VRC):
        decoded_RC = decode_unit(Int8Codec(), targets_VRC)[0].astype(np.float64)
        shift = targets_VRC[0].astype(np.float64) - decoded_RC
        middle = (targets_VRC[0].max(axis=1) + targets_VRC[0].min(axis=1)) / 2
        step = Int8Codec().encode(targets_VRC)["steps"][0].astype(np.float64)
        slack = 1e-6 * np.abs(targets_VRC[0]).max(axis=1) + 1e-12
        assert (np.abs(shift - middle[:, None]).max(axis=1) <= step / 2 + slack).all()

    def test_refuses_a_range_beyond_its_steps(self):
        with pytest.raises(ValueError, match="span more than"):
            Int8Codec().encode(np.array([[[-3e38, 3e38]]], np.float32))

    @pytest.mark.parametrize("largest", [127, 40, 8])
    def test_finer_levels_have_more_steps_and_coarser_ones_fewer(self, largest):
        codes = {level: Int8Codec(largest).encode(FLAT_VRC, level=level)["codes"] for level in range(-2, 4)}
        found = {level: int(np.abs(values.astype(int)).max()) for level, values in codes.items()}
        assert found == {level: min(127, round(largest * 2 ** (level / 2))) for level in codes}

    @pytest.mark.parametrize("step", [np.nan, np.inf, -1.0])
    def test_refuses_to_decode_a_hostile_step(self, step):
        with pytest.raises(ValueError, match="steps"):
            Int8Codec().decode({"codes": np.zeros((2, 3), np.int8), "steps": np.array([0, step], np.float16)})


class TestEveryAxis(CodecContract):
    """A double: it trusts its parameters."""

    test_no_parameter_may_be_hostile = test_is_refused_for_another_number_of_classes = None

    def make(self, logits_VRC):
        return EveryAxisCodec(logits_VRC.mean(axis=(0, 1)), 16)

    def again(self, codec, parameters):
        return EveryAxisCodec.from_parameters(parameters, codec.calibration())


class FeatureCodecContract(CodecContract):
    """Of codecs that keep features: a constant of a row is no other one's."""

    max_distance = 1e-3

    def test_keeps_directions_and_lengths(self):
        targets_VRC = FLAT_VRC + np.float32(5)
        decoded_VRC = decode_unit(self.make(targets_VRC), targets_VRC)
        distances = CosineDistance().errors(targets_VRC.reshape(-1, 7), decoded_VRC.reshape(-1, 7))
        assert distances.mean() < self.max_distance
        assert np.linalg.norm(decoded_VRC, axis=-1) == pytest.approx(np.linalg.norm(targets_VRC, axis=-1), rel=0.1)

    def test_spilled_rows_keep_their_constant(self):
        codec = self.make(FLAT_VRC)
        spilled_VR = np.ones(FLAT_VRC.shape[:2], np.bool_)
        if codec.can_spill:
            decoded_VRC = decode_unit(codec, FLAT_VRC + np.float32(5), spilled_VR=spilled_VR)
            assert decoded_VRC == pytest.approx(FLAT_VRC + 5, rel=2e-3, abs=2e-3)


def test_every_target_has_the_families_that_suit_it():
    """What the command line refuses is what calibration does not try."""
    shapes = [
        RowShape(7, LOGITS), RowShape(7, GLOBAL_FEATURES), RowShape(7, TEXT_FEATURES),
        RowShape(7, EMBEDDINGS),
        MapShape(7, 4, 4, 8, DENSE_LOGITS), MapShape(7, 4, 4, 8, PATCH_FEATURES),
    ]  # fmt: skip
    for shape in shapes:
        measure = CosineDistance() if shape.target in FEATURES else Divergence(1.0)
        wanted = CodecRequest(measure=measure, num_samples=9, num_views=2, unit_rows=9, shape=shape)
        found = families(np.zeros((2, 9, *shape.item_shape), np.float32), wanted)
        assert {codec_name(kind) for kind in found} == set(SUITED[shape.target])
    assert {shape.target for shape in shapes} == set(SUITED) == set(TARGETS)


class TestFp16Features(FeatureCodecContract):
    max_kl, max_distance = 1e-5, 1e-7

    def make(self, features_VRC):
        return Fp16Codec(absolute=True)


class TestInt8Features(FeatureCodecContract):
    max_kl, max_distance = 1e-3, 1e-4

    def make(self, features_VRC):
        return Int8Codec(absolute=True)


class TestKltFeatures(FeatureCodecContract):
    max_kl, max_distance = 2e-3, 1e-4

    def make(self, features_VRC):
        return KltFamily.of_features(features_VRC, num_views=len(features_VRC)).codec(0.02)


def slow_digits(packed_P, counts):
    """One row's digits, from the description in docs/store-format.md."""
    digits, at = [], 0
    for radix, count in zip(RADICES, counts, strict=True):
        if radix == 65536:
            low, high = packed_P[at : at + count], packed_P[at + count : at + 2 * count]
            digits += [int(a) + 256 * int(b) - 32896 for a, b in zip(low, high, strict=True)]
            at += 2 * count
            continue
        per_byte = {256: 1, 15: 2, 5: 3, 3: 5}[radix]
        for i in range(count):
            digits.append(int(packed_P[at + i // per_byte]) // radix ** (i % per_byte) % radix - radix // 2)
        at += -(-count // per_byte)
    return digits


class TestPacking:
    @given(st.lists(st.integers(0, 12), min_size=5, max_size=5), st.integers(0, 2**32 - 1))
    def test_digits_come_back(self, counts, seed):
        packing = Packing(tuple(counts))
        low, high = packing.limits()
        digits = np.random.default_rng(seed).integers(low.astype(int), high.astype(int) + 1, (3, sum(counts)))
        packed = packing.pack(digits.astype(np.float64))
        assert packed.shape == (3, packing.num_bytes)
        assert np.array_equal(packing.unpack(packed).whole(), digits)
        assert [slow_digits(row, counts) for row in packed] == digits.tolist()

    def test_five_digits_of_three_levels_share_a_byte(self):
        assert Packing((0, 0, 0, 0, 100)).num_bytes == 20
        assert Packing((1, 1, 2, 3, 5)).num_bytes == 2 + 1 + 1 + 1 + 1

    def test_fitting_takes_the_narrowest_radices_that_never_grow(self):
        digits = np.array([[400, 1, 9, 1, 0], [-400, -1, -9, 3, 0]], np.float64)
        assert Packing.fitting(digits, 0.01).counts == (1, 2, 1, 0, 1)

    @pytest.mark.parametrize("counts", [(1, 2), (-1, 0, 0, 0, 0), (1 << 20, 0, 0, 0, 0)])
    def test_refuses_absurd_counts(self, counts):
        with pytest.raises(ValueError, match="counts"):
            Packing(counts)


class TestKlt(CodecContract):
    max_kl = 2e-3

    def make(self, logits_VRC):
        return KltFamily.of_logits(logits_VRC, temperature=1.0, num_views=len(logits_VRC)).codec(0.05)

    def test_equals_a_slow_reference(self):
        codec = KltFamily.of_logits(TEACHER_VRC, temperature=1.0, num_views=3).codec(0.3)
        assert codec.image_digits is not None
        encoded = codec.encode(TEACHER_VRC, level=1)
        decoded_RC = codec.decode(view_arrays(codec, encoded, 2, 40))
        step = float(encoded["steps"][0])
        assert step == pytest.approx(2**-0.5)
        for row in (0, 17, 399):
            own = slow_digits(encoded["codes"][2, row], codec.digits.counts)
            shared = slow_digits(encoded["image_codes"][row], codec.image_digits.counts)
            for c in (0, 39):
                terms = zip(own, shared, codec.basis[:, c].tolist(), codec.scales.tolist(), strict=True)
                expected = float(codec.mean[c]) + sum(step * (a + b) * d * s for a, b, d, s in terms)
                assert decoded_RC[row, c] == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize("knob", [0.05, 0.3, 1.0])
    @pytest.mark.parametrize("tails", ["normal", "heavy"])
    def test_the_second_level_errs_about_half_as_much(self, knob, tails):
        rows = RNG.normal(size=(2, 400, 20)) if tails == "normal" else RNG.standard_t(4, size=(2, 400, 20))
        codec = KltFamily.of_logits(rows.astype(np.float32), temperature=1.0, num_views=2).codec(knob)
        coarse, fine = (kl_of(codec, rows.astype(np.float32), level=level).mean() for level in range(codec.num_levels))
        assert 0.35 < fine / coarse < 0.75

    def test_effort_buys_bytes(self):
        wanted = request(max_error=3e-2, effort=2)
        plain, quick, tuned = (
            calibrate(TEACHER_VRC, request(max_error=3e-2, effort=effort), "klt").codec for effort in (0, 1, 2)
        )
        assert plain.rounding is None
        sizes = [bytes_per_view(codec, TEACHER_VRC, wanted) for codec in (plain, quick, tuned)]
        assert max(sizes[1:]) < 0.95 * sizes[0]
        for codec, sweeps in ((quick, QUICK_SWEEPS), (tuned, SWEEPS)):
            assert codec.rounding.sweeps == sweeps
            assert mean_error(codec, TEACHER_VRC, Divergence(1.0)) <= 3e-2
            again = KltCodec.from_parameters(json.loads(json.dumps(codec.parameters())), codec.calibration())
            assert again.encode(TEACHER_VRC)["codes"].tobytes() == codec.encode(TEACHER_VRC)["codes"].tobytes()

    def test_rounding_is_quick_only_with_a_small_basis(self, monkeypatch):
        monkeypatch.setattr("reinforce.store.codecs.klt.QUICK_BASIS", 5 * 40)
        quick, every = (
            KltFamily.of_logits(TEACHER_VRC, temperature=1.0, num_views=3, sweeps=sweeps)
            for sweeps in (QUICK_SWEEPS, SWEEPS)
        )
        finer = every.knobs[every.knobs.index(quick.knobs[0]) - 1]
        sizes = [family.codec(knob).basis.size for family, knob in ((quick, quick.knobs[0]), (every, finer))]
        assert sizes[0] <= 5 * 40 < sizes[1]

    @pytest.mark.parametrize("num_digits", [1, 7, 20])
    def test_rounds_quickly_as_finely_as_it_has_operations_for(self, num_digits):
        limited, free = (
            KltFamily.of_logits(TEACHER_VRC, temperature=1.0, num_views=3, sweeps=QUICK_SWEEPS, quick_flops=flops)
            for flops in (70 * 40 * num_digits, math.inf)
        )
        finer = free.knobs[free.knobs.index(limited.knobs[0]) - 1]
        digits = [len(family.codec(knob).basis) for family, knob in ((limited, limited.knobs[0]), (free, finer))]
        assert digits[0] <= num_digits < digits[1]

    def test_without_operations_the_coarsest_step_is_left(self):
        family = KltFamily.of_logits(TEACHER_VRC, temperature=1.0, num_views=3, sweeps=QUICK_SWEEPS, quick_flops=0)
        assert family.knobs == KltFamily.steps[-1:]

    def test_a_quick_teacher_is_not_rounded_for(self):
        many, few = (calibrate(TEACHER_VRC, request(max_error=3e-2, rounding_flops=flops), "klt").codec
                     for flops in (math.inf, 70 * 40))  # fmt: skip
        assert many.rounding is not None
        assert few.rounding is None

    def test_alike_views_share_a_mean(self):
        views = np.repeat(TEACHER_VRC[:1], 4, axis=0) + RNG.normal(size=(4, 400, 40)).astype(np.float32) * 0.05
        shared = KltFamily.of_logits(views, temperature=1.0, num_views=10).codec(0.3)
        noise = RNG.normal(size=(4, 400, 40)).astype(np.float32)
        unlike = KltFamily.of_logits(noise, temperature=1.0, num_views=10).codec(0.3)
        assert shared.image_digits is not None
        assert unlike.image_digits is None

    def test_digits_beyond_a_byte_are_kept(self):
        wide_VRC = TEACHER_VRC * 100
        codec = KltFamily.of_logits(wide_VRC, temperature=1.0, num_views=3).codec(0.3)
        assert codec.digits.counts[0] > 0
        error = decode_unit(codec, wide_VRC) - wide_VRC
        assert (error - error.mean(axis=-1, keepdims=True)).std() < 3

    @pytest.mark.parametrize("step", [np.nan, np.inf, -1.0])
    def test_refuses_to_decode_a_hostile_step(self, step):
        codec = self.make(FLAT_VRC)
        encoded = codec.encode(FLAT_VRC) | {"steps": np.array([step], np.float32)}
        with pytest.raises(ValueError, match="steps"):
            codec.decode(view_arrays(codec, encoded, 0, 7))


class TestSqrtP(CodecContract):
    max_kl = 2e-3

    def make(self, logits_VRC):
        return SqrtPCodec(1 / 255, 1.0)

    def test_equals_a_slow_reference(self):
        codec = SqrtPCodec(0.02, 2.0)
        encoded = codec.encode(PEAKY_VRC, level=1)
        decoded_RC = codec.decode(view_arrays(codec, encoded, 1, 100))
        step = float(np.float32(0.02 * 2**-0.5))
        for row in range(64):
            codes, tail = encoded["codes"][1, row].tolist(), 2 ** (-int(encoded["tails"][1, row]) / 8)
            body = [(u * step) ** 2 for u in codes]
            share = tail / max(1, codes.count(0))
            p = [x / sum(body) * (1 - tail) if x else share for x in body]
            np.testing.assert_allclose(decoded_RC[row], [2.0 * math.log(x) for x in p], rtol=2e-5, atol=1e-6)

    def test_keeps_the_promise_at_its_temperature(self):
        codec = SqrtPFamily(temperature=4.0).codec(1 / 255)
        assert mean_error(codec, PEAKY_VRC, Divergence(4.0)) < 1e-3

    def test_a_large_tail_leaves_the_one_code_alone(self):
        row = np.zeros((1, 1, 5000), np.float32)
        row[0, 0, 7] = math.log(0.02 * 5000)
        codec = SqrtPCodec(0.2, 1.0)
        assert np.count_nonzero(codec.encode(row)["codes"]) == 1
        assert kl_of(codec, row).max() < 0.05

    def test_coarse_steps_leave_a_uniform_row(self):
        flat = np.zeros((1, 2, 5000), np.float32)
        assert kl_of(SqrtPCodec(0.2, 1.0), flat).max() < 2e-3


class TestTopK(CodecContract):
    max_kl = 1e-5

    def make(self, logits_VRC):
        return TopKCodec(logits_VRC.shape[-1], logits_VRC.shape[-1], 1.0)

    def test_equals_a_slow_reference(self):
        codec = TopKFamily(100, temperature=1.0).codec(5)
        decoded_RC = decode_unit(codec, PEAKY_VRC)[0]
        for row, logits in zip(decoded_RC, PEAKY_VRC[0].astype(np.float64), strict=True):
            log_p = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
            top = np.argsort(-logits, kind="stable")[:5]
            kept = log_p[top].astype(np.float16).astype(np.float64)
            tail = 1 - np.exp(log_p[top]).sum()
            rest = 2 ** (-round(-8 * math.log2(max(tail, 2 ** (-255 / 8)))) / 8) / 95
            np.testing.assert_allclose(row[top], kept, atol=1e-6)
            others = np.delete(row, top)
            assert np.ptp(others) == 0
            assert math.exp(others[0]) == pytest.approx(rest, rel=1e-4)

    def test_refuses_a_class_beyond_the_last(self):
        codec = TopKCodec(2, 7, 1.0)
        encoded = codec.encode(FLAT_VRC)
        encoded["classes"][0, 0, 0] = 7
        with pytest.raises(ValueError, match="beyond the last"):
            codec.decode(view_arrays(codec, encoded, 0, 7))


class KeptTop1Contract(CodecContract):
    """Of coarse codecs, which would name another class for many rows."""

    max_kl = 0.2

    @pytest.mark.parametrize("which", range(3), ids=["flat", "peaky", "one row"])
    @pytest.mark.parametrize("level", [0, -4])
    def test_the_largest_class_is_the_teachers(self, which, level):
        targets_VRC = self.targets[which]
        codec = self.make(targets_VRC)
        assert (decode_unit(codec, targets_VRC, level=level).argmax(-1) == targets_VRC.argmax(-1)).all()
        if which < 2 and codec.name != "top-k":
            assert (decode_unit(codec.codec, targets_VRC, level=level).argmax(-1) != targets_VRC.argmax(-1)).any()

    def test_equals_a_slow_reference(self):
        codec = self.make(FLAT_VRC)
        encoded = codec.encode(FLAT_VRC, level=-4)
        assert encoded["top1"].dtype == np.uint8
        expected_VRC = decode_unit(codec.codec, FLAT_VRC, level=-4).astype(np.float64)
        for row, name in zip(expected_VRC.reshape(-1, 7), encoded["top1"].ravel().tolist(), strict=True):
            if name:
                row[name - 1] = max(row) + max(1, abs(max(row))) / 4096
        assert decode_unit(codec, FLAT_VRC, level=-4) == pytest.approx(expected_VRC, abs=1e-6)

    def test_every_reader_finds_the_same_class(self):
        """The largest leads by more than float32 arithmetic may differ by."""
        first, second = np.moveaxis(np.sort(decode_unit(self.make(PEAKY_VRC), PEAKY_VRC), axis=-1)[..., :-3:-1], -1, 0)
        assert (first - second >= 2e-4 * np.maximum(1, np.abs(second))).all()

    def test_refuses_a_class_beyond_the_last(self):
        codec = self.make(FLAT_VRC)
        encoded = codec.encode(FLAT_VRC)
        encoded["top1"][0, 3] = 8
        with pytest.raises(ValueError, match="beyond the last"):
            codec.decode(view_arrays(codec, encoded, 0, 7))


class TestKltWithTop1(KeptTop1Contract):
    def make(self, logits_VRC):
        return KeptTop1(KltFamily.of_logits(logits_VRC, temperature=1.0, num_views=len(logits_VRC)).codec(1.0))


class TestSqrtPWithTop1(KeptTop1Contract):
    def make(self, logits_VRC):
        return KeptTop1(SqrtPCodec(0.1, 1.0))


class TestTopKWithTop1(KeptTop1Contract):
    max_kl = 0.5

    def make(self, logits_VRC):
        return KeptTop1(TopKCodec(3, logits_VRC.shape[-1], 1.0))


class TestInt8WithTop1(KeptTop1Contract):
    def make(self, logits_VRC):
        return KeptTop1(Int8Codec(6))


class TestFp16WithTop1:
    """Half precision leaves a tie where float32 has none."""

    @settings(deadline=None)
    @given(arrays(np.float32, (3, 6), elements=st.floats(-1e4, 1e4, width=32)))
    def test_the_largest_class_is_the_teachers(self, logits_RC):
        assert (decode_unit(KeptTop1(Fp16Codec()), logits_RC[None])[0].argmax(1) == logits_RC.argmax(1)).all()


@pytest.mark.parametrize("codec", [Int8Codec(absolute=True), Fp16Codec(absolute=True)], ids=["int8", "fp16"])
def test_features_have_no_largest_class(codec):
    with pytest.raises(ValueError, match="rows of logits alone"):
        KeptTop1(codec)
    with pytest.raises(CorruptStoreError, match="rows of logits alone"):
        load_codec(codec.name, codec.parameters() | {"top1": True}, {}, 7)


@pytest.mark.parametrize(
    ("num_classes", "dtype"), [(255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32")]
)
def test_a_class_fits_its_data_type(num_classes, dtype):
    assert KeptTop1(Fp16Codec()).arrays(num_classes)["top1"].dtype == dtype


def request(**changes):
    return CodecRequest(**({"max_error": 1e-2, "measure": Divergence(1.0), "num_samples": 100_000, "num_views": 10,
                            "unit_rows": 400} | changes))  # fmt: skip


class TestCalibration:
    @pytest.mark.parametrize("max_kl", [0.1, 1e-2, 1e-3, 1e-5])
    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_keeps_the_promise_and_is_no_finer_than_it_must_be(self, max_kl, temperature):
        wanted = request(max_error=max_kl, measure=Divergence(temperature))
        codec = calibrate(TEACHER_VRC, wanted).codec
        assert mean_error(codec, TEACHER_VRC, Divergence(temperature)) <= max_kl
        exact = calibrate(TEACHER_VRC, request(max_error=max_kl / 10, measure=Divergence(temperature))).codec
        assert bytes_per_view(codec, TEACHER_VRC, wanted) < bytes_per_view(exact, TEACHER_VRC, wanted)

    def test_takes_fewer_bytes_than_every_codec_that_can_be_forced(self):
        best = bytes_per_view(calibrate(TEACHER_VRC, request()).codec, TEACHER_VRC, request())
        for name in ("klt", "sqrt-p", "top-k", "int8", "fp16"):
            forced = calibrate(TEACHER_VRC, request(), name).codec
            assert forced.name == name
            assert best <= 1.02 * bytes_per_view(forced, TEACHER_VRC, request())

    @pytest.mark.parametrize("name", ["klt", "sqrt-p", "top-k", "int8", "fp16"])
    def test_few_rows_tell_what_a_unit_of_many_will_take(self, name):
        codec = calibrate(TEACHER_VRC, request(max_error=1e-2), name).codec
        many = TEACHER_VRC.shape[1]
        whole = bytes_per_view(codec, TEACHER_VRC, request(unit_rows=many))
        guessed = bytes_per_view(codec, TEACHER_VRC[:, : many // 8], request(unit_rows=many))
        assert guessed == pytest.approx(whole, rel=0.12)

    @pytest.mark.parametrize("name", ["int8", "sqrt-p"])
    def test_so_do_few_images_of_a_small_store(self, name):
        """Of 20 images, 5 are held out: too few rows to say what frames cost."""
        rows_VRC, wanted = TEACHER_VRC[..., :10], request(max_error=1e-2, num_samples=120, unit_rows=32)
        choice = calibrate(rows_VRC[:, :20], wanted, name)
        told = min(point.bytes_per_view for point in choice.measured if point.error <= MARGIN * 1e-2)
        assert told == pytest.approx(bytes_per_view(choice.codec, rows_VRC[:, :320], wanted), rel=0.2)

    def test_says_what_was_measured_on_the_way(self):
        choice = calibrate(TEACHER_VRC, request(max_error=1e-2))
        for kind in {point.kind for point in choice.measured}:
            curve = [point for point in choice.measured if point.kind == kind]
            assert [point.error for point in curve] == sorted(point.error for point in curve)
            assert curve[0].bytes_per_view >= curve[-1].bytes_per_view
        kept = [point for point in choice.measured if point.error <= 1e-2]
        best = min(kept, key=lambda point: point.bytes_per_view)
        assert codec_name(best.kind) == choice.codec.name

    def test_a_range_that_one_codec_cannot_take_rules_out_that_one_alone(self):
        wide_VRC = TEACHER_VRC.copy()
        wide_VRC[0, 0, 0] = 1e5
        assert calibrate(wide_VRC, request(max_error=0.1)).codec.name in ("klt", "sqrt-p", "int8")

    def test_few_images_get_no_basis_that_only_fits_them(self):
        assert calibrate(TEACHER_VRC[:, :7], request()).codec.calibration() == {}
        with pytest.raises(UsageError, match="needs 8 images"):
            calibrate(TEACHER_VRC[:, :7], request(), "klt")

    @pytest.mark.parametrize("max_kl", [1e-3, 1.03e-3])
    def test_what_an_error_says_to_type_works(self, max_kl):
        with pytest.raises(UsageError) as caught:
            calibrate(TEACHER_VRC, request(max_error=max_kl / 100), "int8")
        advised = float(str(caught.value).split("--max-kl ")[1].split()[0])
        assert calibrate(TEACHER_VRC, request(max_error=advised), "int8").codec.name == "int8"

    def test_a_small_store_does_not_pay_for_a_basis(self):
        assert calibrate(TEACHER_VRC, request(max_error=1e-3)).codec.name == "klt"
        assert calibrate(TEACHER_VRC, request(max_error=1e-3, num_samples=20, num_views=1)).codec.calibration() == {}

    def test_a_tight_promise_takes_the_exact_one(self):
        assert calibrate(PEAKY_VRC, request(max_error=1e-7)).codec.name == "fp16"

    @pytest.mark.parametrize("max_bytes", [6, 12, 30])
    def test_gives_the_least_error_within_bytes(self, max_bytes):
        codec = calibrate(TEACHER_VRC, request(max_bytes=max_bytes)).codec
        assert bytes_per_view(codec, TEACHER_VRC, request()) <= max_bytes
        roomier = calibrate(TEACHER_VRC, request(max_bytes=1.5 * max_bytes)).codec
        assert mean_error(roomier, TEACHER_VRC, Divergence(1.0)) < mean_error(codec, TEACHER_VRC, Divergence(1.0))

    @pytest.mark.parametrize("name", [None, "klt", "sqrt-p", "top-k", "int8", "fp16"])
    def test_the_largest_class_is_kept_for_a_fraction_of_a_byte(self, name):
        plain, kept = (calibrate(TEACHER_VRC, request(keep_top1=keep), name).codec for keep in (False, True))
        assert (decode_unit(kept, TEACHER_VRC).argmax(-1) == TEACHER_VRC.argmax(-1)).all()
        assert mean_error(kept, TEACHER_VRC, Divergence(1.0)) <= 1e-2
        sizes = [bytes_per_view(codec, TEACHER_VRC, request()) for codec in (plain, kept)]
        assert sizes[1] - sizes[0] < 0.4

    def test_says_how_few_bytes_can_be_had(self):
        with pytest.raises(UsageError, match=r"within 0.01 bytes a view: type --max-bytes"):
            calibrate(TEACHER_VRC, request(max_bytes=0.01))

    @pytest.mark.parametrize("name", [None, "int8"])
    def test_says_what_can_be_had(self, name):
        with pytest.raises(UsageError, match=r"type --max-kl \d"):
            calibrate(PEAKY_VRC, request(max_error=1e-15), name)


def test_unknown_codecs_are_named():
    with pytest.raises(UnknownNameError, match="did you mean 'int8'"):
        named_codec("int9")
    with pytest.raises(StoreError, match="upgrade"):
        load_codec("vq", {}, {}, 7)
    with pytest.raises(CorruptStoreError, match="codec fp16"):
        load_codec("fp16", {"step": 1}, {}, 7)


def test_the_plan_binds_calibration_by_hash():
    record = codec_record(EveryAxisCodec(np.arange(5), 16))
    assert record["parameters"] == {"bits": 16}
    assert record["arrays"]["prior"]["shape"] == [5]
    assert record != codec_record(EveryAxisCodec(np.arange(5) + 1, 16))
