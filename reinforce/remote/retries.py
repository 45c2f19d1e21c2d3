"""How often a request that failed for a passing reason is made again, and how long is waited before."""

from __future__ import annotations

import os
import random
import time

from reinforce.errors import UsageError

RETRIES_VARIABLE = "REINFORCE_RETRIES"
RETRIES = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0


def num_retries() -> int:
    text = os.environ.get(RETRIES_VARIABLE, str(RETRIES))
    if not text.isdigit():
        raise UsageError(f"{RETRIES_VARIABLE} is '{text}': set it to a number of tries, such as {RETRIES}")
    return int(text)


def wait_before_retry(attempt: int) -> None:
    """Exponential, with jitter."""
    time.sleep(random.uniform(0.5, 1) * min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt))
