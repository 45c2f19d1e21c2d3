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

LARGEST = 127


def int8_product(digits_RK: NDArray[np.float32], basis_KC: NDArray[np.int8]) -> NDArray[np.int32] | None:
    """Whole `digits` times `basis`; None where a digit is beyond +-127 or there is no kernel."""
    torch = sys.modules.get("torch")
    if torch is None or not digits_RK.size or not _is_exact():
        return None
    if digits_RK.max() > LARGEST or digits_RK.min() < -LARGEST:
        return None
    return _product(torch, digits_RK.astype(np.int8), basis_KC)


@functools.cache
def _is_exact() -> bool:
    """Whether torch's kernel is here, and right on values that overflow in 16 bits, as some processors' do."""
    signs = np.resize(np.array([1, 1, -1], np.int8), (7, 200)) * np.int8(LARGEST)
    basis = np.resize(np.array([1, 1, 1, -1], np.int8), (200, 33)) * np.int8(LARGEST)
    try:
        found = _product(sys.modules["torch"], signs, basis)
    except (AttributeError, RuntimeError):
        return False
    return bool((found == signs.astype(np.int32) @ basis.astype(np.int32)).all())


def _product(torch: Any, digits_RK: NDArray[np.int8], basis_KC: NDArray[np.int8]) -> NDArray[np.int32]:
    basis = basis_KC if basis_KC.flags.writeable else basis_KC.copy()
    product: NDArray[np.int32] = torch._int_mm(torch.from_numpy(digits_RK), torch.from_numpy(basis)).numpy()
    return product
