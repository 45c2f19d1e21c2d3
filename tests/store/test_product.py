"""Integer products: the same numbers as in 64 bits, or none; and klt decodes alike with and without them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from reinforce.store.codecs import klt as klt_module
from reinforce.store.codecs import product as product_module
from reinforce.store.codecs.base import view_arrays
from reinforce.store.codecs.klt import KltFamily
from reinforce.store.codecs.packing import Digits
from reinforce.store.codecs.product import int8_product

RNG = np.random.default_rng(11)


@pytest.fixture
def kernel(monkeypatch):
    """Taken even where it is slow, if only it is right."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    if not product_module._is_exact():
        pytest.skip("torch's kernel overflows on this processor")


needs_kernel = pytest.mark.usefixtures("kernel")


def digits(shape, high, seed=11):
    """Random digits, the first column of which have a high part up to `high`."""
    rng = np.random.default_rng(seed)
    return Digits(
        rng.integers(-128, 128, shape).astype(np.int8), rng.integers(-high, high + 1, (shape[0], 1)).astype(np.int16)
    )


def product(left, right, scale, mean):
    return int8_product(left, right, np.float32(scale), np.asarray(mean, np.float32))


@needs_kernel
@pytest.mark.parametrize("high", [0, 3, 127], ids=["narrow", "wide", "widest"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 200, 33), (65, 7, 128), (2048, 500, 10), (700, 30, 7)], ids=str)
def test_equals_64_bit_integers(shape, high):
    rows, columns, classes = shape
    left = digits((rows, columns), high)
    right = RNG.integers(-127, 128, (columns, classes)).astype(np.int8)
    mean = RNG.normal(size=classes) * 100
    found = product(left, right, 0.25, mean)
    wanted = 0.25 * (left.whole().astype(np.int64) @ right.astype(np.int64))
    np.testing.assert_allclose(found - mean.astype(np.float32), wanted, rtol=3e-7, atol=1e-4)


@needs_kernel
@pytest.mark.parametrize("order", ["C", "F"])
def test_digits_in_any_order_are_taken(order):
    left = digits((33, 20), 1)
    right = RNG.integers(-127, 128, (20, 8)).astype(np.int8)
    ordered = Digits(np.array(left.low, order=order), np.array(left.high, order=order))
    np.testing.assert_array_equal(product(ordered, right, 1, np.zeros(8)), left.whole() @ right.astype(np.float32))


@needs_kernel
def test_no_setting_of_torchs_float_products_is_felt():
    left, right = digits((300, 600), 5), RNG.integers(-127, 128, (600, 400)).astype(np.int8)
    mean = RNG.normal(size=400)
    exact = product(left, right, 0.001, mean)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        np.testing.assert_array_equal(product(left, right, 0.001, mean), exact)
    finally:
        torch.set_float32_matmul_precision(before)


NARROW = Digits(np.ones((2, 3), np.int8), np.zeros((2, 0), np.int16))


@pytest.mark.parametrize(
    "left",
    [Digits(NARROW.low, np.full((2, 1), value, np.int16)) for value in (128, -129)]
    + [Digits(np.ones((2, 600), np.int8), np.full((2, 516), 127, np.int16))]
    + [Digits(np.empty(shape, np.int8), np.empty((shape[0], 0), np.int16)) for shape in ((0, 3), (2, 0))],
    ids=["over 8 bits", "under 8 bits", "sums over 32 bits", "no rows", "no digits"],
)
def test_there_is_none_for_digits_beyond_or_without_any(left):
    assert product(left, np.ones((left.low.shape[1], 4), np.int8), 1, np.zeros(4)) is None


@needs_kernel
def test_sums_just_within_32_bits_are_exact():
    left = Digits(np.full((2, 600), -128, np.int8), np.full((2, 500), 127, np.int16))
    right = np.full((600, 4), -128, np.int8)
    wanted = left.whole().astype(np.int64) @ right.astype(np.int64)
    assert abs(wanted).max() > 1 << 30
    np.testing.assert_array_equal(product(left, right, 1, np.zeros(4)), wanted.astype(np.float32))


def test_there_is_none_where_it_would_be_slow(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert product(NARROW, np.ones((3, 4), np.int8), 1, np.zeros(4)) is None


def test_there_is_none_where_nobody_loaded_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert product(NARROW, np.ones((3, 4), np.int8), 1, np.zeros(4)) is None


@pytest.mark.parametrize(("wide", "other_wide"), [(0, 0), (2, 0), (0, 3), (3, 1)])
def test_digits_add_up(wide, other_wide):
    rng = np.random.default_rng(1)
    parts = [
        Digits(rng.integers(-128, 128, (50, 6)).astype(np.int8), rng.integers(-128, 128, (50, n)).astype(np.int16))
        for n in (wide, other_wide)
    ]
    np.testing.assert_array_equal((parts[0] + parts[1]).whole(), parts[0].whole() + parts[1].whole())


@needs_kernel
@pytest.mark.parametrize("knob", [0.02, 0.3, 2.0], ids=["wide digits", "fine", "coarse"])
def test_klt_decodes_alike_with_and_without(knob, monkeypatch):
    base = RNG.normal(size=(1, 300, 40)) @ RNG.normal(size=(40, 300))
    logits_VRC = (base + RNG.normal(size=(2, 300, 300))).astype(np.float32)
    codec = KltFamily.of_logits(logits_VRC, temperature=1.0, num_views=2).codec(knob)
    assert codec.basis.dtype == np.int8
    arrays = codec.encode(logits_VRC)
    used = []
    monkeypatch.setattr(klt_module, "int8_product", lambda *a: used.append(int8_product(*a)) or used[-1])
    fast = codec.decode(view_arrays(codec, arrays, 0, 300))
    monkeypatch.setattr(klt_module, "int8_product", lambda *_: None)
    slow = codec.decode(view_arrays(codec, arrays, 0, 300))
    assert used[0] is not None
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-4)
