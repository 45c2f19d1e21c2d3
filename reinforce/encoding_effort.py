"""How long rounding may take at the default effort: a small share of what the teacher takes, counted and not timed.

A plan decides bytes, so it may not depend on how fast this machine was just now: both sides are counted in operations,
which are the same every time. Time a view = operations / rate; what is here known of rates is the share.
"""

from __future__ import annotations

import math

from reinforce.store import LOGITS
from reinforce.target_source import TargetSource
from reinforce.teacher import Teacher

SHARE = {"cpu": 0.01}
"""Of the teacher's operations, where it computes on the cores that encode: both do them about equally fast."""
SHARE_BESIDE = 1 / 2000
"""Where the teacher has a device of its own. Units are encoded beside it, so rounding may take as long as it does, on
a core of about 25 GFLOP/s beside 50 TFLOP/s."""


def rounding_flops(teacher: TargetSource) -> float:
    """Operations that rounding a view's logits may take; infinity for targets that are not rounded."""
    if teacher.target != LOGITS or not isinstance(teacher, Teacher):
        return math.inf
    return teacher.flops_per_view() * SHARE.get(teacher.device.type, SHARE_BESIDE)
