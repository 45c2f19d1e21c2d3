"""Matrix products of 8-bit integers, exact, several times as fast as in float32 where a processor has them.

R = rows, K = digits, C = classes.

torch has such kernels, but takes seconds to import, and readers do without it: they are used where a program (training,
a build) has loaded it anyway. The products are the same whole numbers either way.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.packing import Digits

BLOCK_ROWS = 256
"""A block's products stay in the cache while they are scaled."""


def int8_product(digits: Digits, basis_KC: NDArray[np.int8], scale: np.float32) -> NDArray[np.float32] | None:
    """(R, C) scale * digits @ basis; None where the high parts are beyond 8 bits or there is no kernel."""
    torch = sys.modules.get("torch")
    if torch is None or not digits.low.size or not _is_exact():
        return None
    num_high = 1 + max(np.flatnonzero(digits.high.any(axis=0)), default=-1)
    high_RH = digits.high[:, :num_high].astype(np.int8)
    if (high_RH != digits.high[:, :num_high]).any():
        return None
    scaled_RC = np.empty((len(digits.low), basis_KC.shape[1]), np.float32)
    for start in range(0, len(scaled_RC), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        np.multiply(_product(torch, digits.low[rows], basis_KC), scale, out=scaled_RC[rows], casting="same_kind")
        if num_high:
            scaled_RC[rows] += _product(torch, high_RH[rows], basis_KC[:num_high]) * (np.float32(256) * scale)
    return scaled_RC


@functools.cache
def _is_exact() -> bool:
    """Whether torch's kernel is here, and right on values that overflow in 16 bits, as some processors' do."""
    signs = np.resize(np.array([127, 127, -128], np.int8), (7, 200))
    basis = np.resize(np.array([127, 127, 127, -127], np.int8), (200, 33))
    try:
        found = _product(sys.modules["torch"], signs, basis)
    except (AttributeError, RuntimeError):
        return False
    return bool((found == signs.astype(np.int32) @ basis.astype(np.int32)).all())


def _product(torch: Any, digits_RK: NDArray[np.int8], basis_KC: NDArray[np.int8]) -> NDArray[np.int32]:
    basis = basis_KC if basis_KC.flags.writeable else basis_KC.copy()
    product: NDArray[np.int32] = torch._int_mm(torch.from_numpy(digits_RK), torch.from_numpy(basis)).numpy()
    return product
