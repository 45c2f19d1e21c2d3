"""Raw random words of a view and what is made of them, for every kind of policy.

Word i of a view is lane i mod 4 of the Philox4x64-10 block (Salmon et al. 2011, doi 10.1145/2063384.2063405) with

    key     = (policy seed, hash64(sample key))
    counter = (1 + i div 4, view index, 0, 0)            least significant word first

Only a word's upper 32 bits u are used: below(n) = u * n >> 32; an event of probability p happens if u < p_q32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reinforce.data.keys import hash64

MAX_VIEW = (1 << 32) - 1
NOISE_STREAM = 1
"""Third counter word of noise fields; that of parameters is 0, so the two never share a block."""


def draw_words(seed: int, key: str, view: int, num: int) -> list[int]:
    """The first `num` raw 64-bit words of one view."""
    # numpy counts up before its first block, so the counter (0, view, 0, 0) here is block (1, view, 0, 0) of the table
    words: list[int] = _philox((seed, hash64(key)), (0, view, 0, 0)).random_raw(num).tolist()
    return words


def noise_words(field: int, num: int) -> npt.NDArray[np.uint64]:
    """`num` raw words: word i is lane i mod 4 of the block with key (0, field), counter (1 + i div 4, 0, 1, 0)."""
    words: npt.NDArray[np.uint64] = _philox((0, field), (0, 0, NOISE_STREAM, 0)).random_raw(num)
    return words


def below(word: int, bound: int) -> int:
    """An integer in 0..bound - 1."""
    return (word >> 32) * bound >> 32


def between(word: int, bounds: Sequence[int]) -> int:
    """An integer from the first of `bounds` to the last, both included."""
    return bounds[0] + below(word, bounds[-1] - bounds[0] + 1)


def event(word: int, chance_q32: int) -> bool:
    return word >> 32 < chance_q32


def _philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> np.random.Philox:
    return np.random.Philox(key=np.array(key, dtype=np.uint64), counter=np.array(counter, dtype=np.uint64))
