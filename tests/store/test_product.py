"""Integer products: the same whole numbers as in 64 bits, or none; and klt decodes alike with and without them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from reinforce.store.codecs import klt as klt_module
from reinforce.store.codecs.base import view_arrays
from reinforce.store.codecs.klt import KltFamily
from reinforce.store.codecs.product import int8_product

RNG = np.random.default_rng(11)


needs_kernel = pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith("AVX512"), reason="kernels of older processors may overflow"
)


@needs_kernel
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 200, 33), (65, 7, 128), (2048, 500, 10)], ids=str)
def test_equals_64_bit_integers(shape):
    rows, digits, classes = shape
    left = RNG.integers(-127, 128, (rows, digits)).astype(np.float32)
    right = RNG.integers(-127, 128, (digits, classes)).astype(np.int8)
    found = int8_product(left, right)
    assert found is not None
    np.testing.assert_array_equal(found, left.astype(np.int64) @ right.astype(np.int64))


@needs_kernel
def test_read_only_arrays_are_taken():
    basis = np.ones((3, 4), np.int8)
    basis.flags.writeable = False
    assert int8_product(np.ones((2, 3), np.float32), basis).tolist() == [[3] * 4] * 2


@pytest.mark.parametrize(
    "digits", [np.full((2, 3), 128.0), np.full((2, 3), -128.0), np.empty((0, 3)), np.empty((2, 0))], ids=str
)
def test_there_is_none_for_digits_beyond_or_without_any(digits):
    assert int8_product(digits.astype(np.float32), np.ones((digits.shape[1], 4), np.int8)) is None


def test_there_is_none_where_nobody_loaded_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert int8_product(np.ones((2, 3), np.float32), np.ones((3, 4), np.int8)) is None


@needs_kernel
@pytest.mark.parametrize("knob", [0.02, 0.3, 2.0], ids=["wide digits", "fine", "coarse"])
def test_klt_decodes_alike_with_and_without(knob, monkeypatch):
    base = RNG.normal(size=(1, 300, 40)) @ RNG.normal(size=(40, 300))
    logits_VRC = (base + RNG.normal(size=(2, 300, 300))).astype(np.float32)
    codec = KltFamily(logits_VRC, temperature=1.0, num_views=2).codec(knob)
    assert codec.basis.dtype == np.int8
    arrays = codec.encode(logits_VRC)
    used = []
    monkeypatch.setattr(klt_module, "int8_product", lambda *a: used.append(int8_product(*a)) or used[-1])
    fast = codec.decode(view_arrays(codec, arrays, 0, 300))
    monkeypatch.setattr(klt_module, "int8_product", lambda *_: None)
    slow = codec.decode(view_arrays(codec, arrays, 0, 300))
    assert used[0] is not None
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-4)
