"""Matrix products of 8-bit integers, exact, several times as fast as in float32 where a processor has instructions for
them (VNNI); elsewhere torch does them one by one, which takes fifty times as long as in float32.

R = rows, K = digits, C = classes, H = leading digits that have high parts.

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

COLUMNS = 8
"""Of high parts, in multiples: products of three columns take five times as long as of eight."""
BLOCK_ROWS = 256
"""Of the high parts, so that their products stay in the cache until they are added. The low parts' are one: the kernel
rearranges the basis at every call, which takes as long as a hundred rows."""


def int8_product(
    digits: Digits, basis_KC: NDArray[np.int8], scale: np.float32, mean_C: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """(R, C) mean + scale * (digits @ basis); None where 8-bit parts, or sums of 32 bits, do not hold them, or there is
    no quick kernel."""
    torch = sys.modules.get("torch")
    if torch is None or not digits.low.size or not _fit(digits) or not are_quick() or not _is_exact():
        return None
    basis, high_RH = torch.from_numpy(basis_KC), torch.from_numpy(_high_parts(digits))
    sums_RC = torch.from_numpy(np.empty((len(digits.low), len(mean_C)), np.int32))  # of numpy: in large pages
    torch._int_mm(torch.from_numpy(digits.low), basis, out=sums_RC)
    if high_RH.shape[1]:
        for sums, high in zip(sums_RC.split(BLOCK_ROWS), high_RH.split(BLOCK_ROWS), strict=True):
            sums.add_(torch._int_mm(high, basis[: high_RH.shape[1]]), alpha=256)
    targets_RC = sums_RC.view(torch.float32).copy_(sums_RC)  # element by element, in its own memory
    torch.addcmul(torch.tensor(mean_C), targets_RC, torch.tensor(scale), out=targets_RC)
    found: NDArray[np.float32] = targets_RC.numpy()
    return found


def _high_parts(digits: Digits) -> NDArray[np.int8]:
    """(R, H) those of the columns up to the last that has any, and of a few more: kernels want no odd numbers."""
    num_high = 1 + max(np.flatnonzero(digits.high.any(axis=0)), default=-1)
    padded = min(-(-num_high // COLUMNS) * COLUMNS, digits.low.shape[1])
    high_RH = np.zeros((len(digits.low), padded), np.int8)
    high_RH[:, :num_high] = digits.high[:, :num_high]
    return high_RH


def _fit(digits: Digits) -> bool:
    """Whether high parts are 8-bit numbers, and no sum of products with such numbers is beyond 32 bits."""
    peaks_H = np.abs(digits.high).max(axis=0).astype(np.int64)
    largest = 128 * digits.low.shape[1] + 256 * int(peaks_H.sum())
    return int(peaks_H.max(initial=0)) <= 127 and 128 * largest < 1 << 31


def are_quick() -> bool:
    """Whether this processor has instructions for them; needs torch."""
    torch: Any = sys.modules["torch"]
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())


@functools.cache
def _is_exact() -> bool:
    """Whether torch's kernel is here, and right on values that overflow in 16 bits, as some processors' do."""
    torch: Any = sys.modules["torch"]
    signs = np.resize(np.array([127, 127, -128], np.int8), (7, 200))
    basis = np.resize(np.array([127, 127, 127, -127], np.int8), (200, 33))
    try:
        found = torch._int_mm(torch.from_numpy(signs), torch.from_numpy(basis)).numpy()
    except (AttributeError, RuntimeError):
        return False
    return bool((found == signs.astype(np.int32) @ basis.astype(np.int32)).all())
