"""Every codec keeps one contract, and each agrees with a slow reference. R = rows, C = classes, V = views."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_stores import EveryAxisCodec

from reinforce.errors import CorruptStoreError, StoreError, UnknownNameError, UsageError
from reinforce.store.codecs import (
    Fp16Codec,
    Int8Codec,
    calibrate,
    codec_record,
    load_codec,
    named_codec,
    view_arrays,
)
from reinforce.store.fidelity import row_kl

RNG = np.random.default_rng(5)
FLAT_VRC = RNG.normal(size=(3, 16, 7)).astype(np.float32)
PEAKY_VRC = (RNG.gumbel(size=(2, 64, 100)) * 4).astype(np.float32)


def decode_unit(codec, targets_VRC):
    encoded = codec.encode(targets_VRC)
    views = range(len(targets_VRC))
    return np.stack([codec.decode(view_arrays(codec, encoded, v, targets_VRC.shape[-1])) for v in views])


class CodecContract:
    max_kl = 1e-3

    def make(self, logits_RC):
        raise NotImplementedError

    @pytest.mark.parametrize("targets_VRC", [FLAT_VRC, PEAKY_VRC, FLAT_VRC[:1, :1]], ids=["flat", "peaky", "one row"])
    def test_decodes_within_its_fidelity(self, targets_VRC):
        codec = self.make(targets_VRC.reshape(-1, targets_VRC.shape[-1]))
        decoded_VRC = decode_unit(codec, targets_VRC)
        assert decoded_VRC.dtype == np.float32
        assert decoded_VRC.shape == targets_VRC.shape
        num_classes = targets_VRC.shape[-1]
        assert (
            row_kl(targets_VRC.reshape(-1, num_classes), decoded_VRC.reshape(-1, num_classes), 1.0).mean() < self.max_kl
        )

    def test_arrays_have_the_declared_types_and_shapes(self):
        codec = self.make(FLAT_VRC.reshape(-1, 7))
        encoded = codec.encode(FLAT_VRC)
        specs = codec.arrays(7)
        assert encoded.keys() == specs.keys()
        for name, spec in specs.items():
            assert encoded[name].dtype == spec.dtype, name
            assert encoded[name].shape == spec.unit_shape(3, 16), name

    def test_encoding_is_deterministic_and_leaves_its_input_alone(self):
        codec = self.make(FLAT_VRC.reshape(-1, 7))
        before = FLAT_VRC.copy()
        first, second = codec.encode(FLAT_VRC), codec.encode(FLAT_VRC)
        assert all(first[name].tobytes() == second[name].tobytes() for name in first)
        assert np.array_equal(before, FLAT_VRC)

    def test_is_a_function_of_its_parameters_and_calibration(self):
        codec = self.make(FLAT_VRC.reshape(-1, 7))
        again = type(codec).from_parameters(codec.parameters(), codec.calibration())
        first, second = codec.encode(FLAT_VRC), again.encode(FLAT_VRC)
        assert all(first[name].tobytes() == second[name].tobytes() for name in first)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_refuses_what_is_not_finite(self, bad):
        targets_VRC = FLAT_VRC.copy()
        targets_VRC[1, 2, 3] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            self.make(FLAT_VRC.reshape(-1, 7)).encode(targets_VRC)

    def test_a_row_of_equal_logits_stays_one(self):
        codec = self.make(FLAT_VRC.reshape(-1, 7))
        targets_VRC = np.zeros((1, 4, 7), np.float32)
        assert row_kl(targets_VRC[0], decode_unit(codec, targets_VRC)[0], 1.0).max() < self.max_kl


class TestFp16(CodecContract):
    max_kl = 1e-6

    def make(self, logits_RC):
        return Fp16Codec.calibrate(logits_RC, max_kl=1e-3, temperature=1.0)

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


class TestInt8(CodecContract):
    def make(self, logits_RC):
        return Int8Codec.calibrate(logits_RC, max_kl=1e-3, temperature=1.0)

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

    @pytest.mark.parametrize("step", [np.nan, np.inf, -1.0])
    def test_refuses_to_decode_a_hostile_step(self, step):
        with pytest.raises(ValueError, match="steps"):
            Int8Codec().decode({"codes": np.zeros((2, 3), np.int8), "steps": np.array([0, step], np.float16)})


class TestEveryAxis(CodecContract):
    def make(self, logits_RC):
        return EveryAxisCodec.calibrate(logits_RC, max_kl=1e-3, temperature=1.0)


@pytest.mark.parametrize(
    ("max_kl", "expected"), [(1e-2, "int8"), (1e-7, "fp16")], ids=["loose promise: cheap", "tight promise: exact"]
)
def test_calibration_takes_the_cheapest_that_keeps_the_promise(max_kl, expected):
    assert calibrate(PEAKY_VRC[0], max_kl=max_kl, temperature=1.0).name == expected


@pytest.mark.parametrize("name", [None, "int8"])
def test_calibration_says_what_can_be_had(name):
    with pytest.raises(UsageError, match=r"is reached here, type --max-kl \d"):
        calibrate(PEAKY_VRC[0], max_kl=1e-15, temperature=1.0, name=name)


def test_unknown_codecs_are_named():
    with pytest.raises(UnknownNameError, match="did you mean 'int8'"):
        named_codec("int9")
    with pytest.raises(StoreError, match="upgrade"):
        load_codec("klt", {}, {})
    with pytest.raises(CorruptStoreError, match="codec fp16"):
        load_codec("fp16", {"step": 1}, {})


def test_the_plan_binds_calibration_by_hash():
    record = codec_record(EveryAxisCodec(np.arange(5), 16))
    assert record["parameters"] == {"bits": 16}
    assert record["arrays"]["prior"]["shape"] == [5]
    assert record != codec_record(EveryAxisCodec(np.arange(5) + 1, 16))
