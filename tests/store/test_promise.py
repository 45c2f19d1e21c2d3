"""A unit's mean KL never exceeds the promise: as planned, else finer, else with its worst rows spilled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_stores import plan_of

from reinforce.errors import BuildError
from reinforce.store.codecs import Int8Codec
from reinforce.store.codecs.kept_top1 import KeptTop1
from reinforce.store.codecs.klt import KltFamily
from reinforce.store.codecs.sqrt_p import SqrtPCodec
from reinforce.store.codecs.top_k import TopKCodec
from reinforce.store.measures import Divergence
from reinforce.store.promise import Promise, _worst_rows, encode_within
from reinforce.store.schema import Schema
from reinforce.store.writer import codec_objects, decode_unit

V, U, C = 3, 64, 5
RNG = np.random.default_rng(1)
CALM = RNG.normal(size=(V, U, C)).astype(np.float32)
WILD = CALM * 40
ALL_OK = np.ones(U, np.bool_)


def schema_of(codec) -> Schema:
    return replace(Schema.from_plan(plan_of(codec)), unit_rows=U, units=((0, 0, U),), num_samples=U)


CODECS = {
    "klt": KltFamily.of_logits(CALM, temperature=1.0, num_views=V).codec(0.2),
    "sqrt-p": SqrtPCodec(0.01, 1.0),
    "top-k": TopKCodec(2, C, 1.0),
}
CODECS["sqrt-p, top1"] = KeptTop1(SqrtPCodec(0.01, 1.0))
MAX_KL = {"klt": 5e-3, "sqrt-p": 5e-4, "sqrt-p, top1": 5e-4, "top-k": 0.2}


@pytest.mark.parametrize("name", CODECS)
class TestAnyUnit:
    def encode(self, name: str, targets: np.ndarray, ok: np.ndarray = ALL_OK):
        codec = CODECS[name]
        return encode_within(schema_of(codec), codec, 0, targets, ok, Promise(max_error=MAX_KL[name]))

    def test_one_like_the_calibration_stays_as_planned(self, name):
        encoded = self.encode(name, CALM)
        assert (encoded.level, encoded.num_spilled) == (0, 0)
        assert encoded.fidelity.mean <= MAX_KL[name]

    @pytest.mark.parametrize("factor", [1.2, 1.5, 3, 40, 1e6])
    def test_a_wilder_one_keeps_the_promise_too(self, name, factor):
        targets = CALM * np.float32(factor)
        encoded = self.encode(name, targets)
        decoded = decode_unit(schema_of(CODECS[name]), CODECS[name], 0, encoded.contents)
        kl = Divergence(1.0).errors(targets.reshape(-1, C), decoded.reshape(-1, C))
        assert kl.mean() == pytest.approx(encoded.fidelity.mean, rel=1e-9)
        assert kl.mean() <= MAX_KL[name]
        if "top1" in name:
            assert (decoded.argmax(-1) == targets.argmax(-1)).all()
            assert encoded.fidelity.top1_agreement == 1

    def test_of_odd_rows_no_more_are_spilled_than_must_be(self, name):
        targets = CALM.copy()
        targets[1, 7] = [900, -900, 900.5, -900, 900] if name != "klt" else [0, 0, 1000, 0, 999]
        encoded = self.encode(name, targets)
        assert (encoded.level, encoded.num_spilled) == ((0, 1) if name == "klt" else (0, 0))
        assert encoded.fidelity.mean <= MAX_KL[name]

    def test_rows_that_do_not_count_do_not_matter(self, name):
        targets, ok = CALM.copy(), ALL_OK.copy()
        targets[:, 20:], ok[20:] = WILD[:, 20:], False
        encoded = self.encode(name, targets, ok)
        assert (encoded.level, encoded.num_spilled, encoded.fidelity.count) == (0, 0, V * 20)

    def test_the_bytes_depend_on_nothing_else(self, name):
        assert self.encode(name, WILD).contents == self.encode(name, WILD).contents


@pytest.mark.parametrize("factor", [1, 1.5, 3])
def test_a_unit_gets_coarser_to_keep_within_bytes(factor):
    codec, targets = CODECS["klt"], CALM * np.float32(factor)
    planned = encode_within(schema_of(codec), codec, 0, CALM, ALL_OK, Promise(max_bytes=1000.0))
    shared = sum(map(len, codec_objects(schema_of(codec), codec).values()))
    allowed = (planned.num_bytes + shared) / (V * U)
    encoded = encode_within(schema_of(codec), codec, 0, targets, ALL_OK, Promise(max_bytes=allowed))
    assert encoded.num_bytes + shared <= allowed * V * U
    assert (encoded.level < 0) == (factor > 1)


def test_a_codec_that_cannot_says_what_to_type():
    targets = np.zeros((V, U, C), np.float32)
    targets[..., 1:] = [3000, -3000, 2999, 2990]
    with pytest.raises(BuildError, match="type --codec fp16"):
        encode_within(schema_of(Int8Codec()), Int8Codec(), 0, targets, ALL_OK, Promise(max_error=1e-3))


def test_exact_rows_count_as_rows():
    kl = np.zeros((1, 100))
    kl[0, :10] = 0.1
    assert _worst_rows(kl, 0.9 * 0.009 * 100).sum() == 2


def test_tight_promises_are_kept_too():
    codec = KltFamily.of_logits(CALM, temperature=1.0, num_views=V).codec(0.05)
    encoded = encode_within(schema_of(codec), codec, 0, CALM * np.float32(30), ALL_OK, Promise(max_error=1e-5))
    assert encoded.fidelity.mean <= 1e-5
    assert encoded.num_spilled > 0


@pytest.mark.parametrize("num_ok", [0, 1, 16])
def test_a_short_unit_is_not_coarser_for_what_its_padding_takes(num_ok):
    codec, ok = CODECS["klt"], np.arange(U) < num_ok
    targets = np.where(ok[:, None], CALM, 0).astype(np.float32)
    whole = encode_within(schema_of(codec), codec, 0, CALM, ALL_OK, Promise(max_bytes=1000.0)).num_bytes
    encoded = encode_within(schema_of(codec), codec, 0, targets, ok, Promise(max_bytes=1.05 * whole / (V * U)))
    assert encoded.level == 0


def test_a_promise_is_of_one_thing():
    for both in ({}, {"max_error": 1.0, "max_bytes": 1.0}):
        with pytest.raises(ValueError, match="either"):
            Promise(**both)
