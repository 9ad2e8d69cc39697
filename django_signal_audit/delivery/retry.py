"""When a message that failed is tried again: a pure function of the attempt."""

from __future__ import annotations

import random

# 20 s, 80 s, 5 min, 21 min, 85 min, 5.7 h, 23 h, 24 h, 24 h: ten attempts in some three days, a weekend and more.
MAX_ATTEMPTS = 10
FIRST_SECONDS = 20.0
FACTOR = 4.0
LONGEST_SECONDS = 86_400.0
JITTER = 0.2

_rng = random.Random()  # noqa: S311  # it spreads retries, it guards nothing


def delay(attempt: int, rng: random.Random = _rng) -> float:
    """Return the seconds to wait after the attempt of that number, counted from 1, has failed.

    The wait grows exponentially and varies by 20 % either way, so that what failed together is not retried together.
    """
    exponent = min(max(attempt, 1) - 1, MAX_ATTEMPTS)
    return min(FIRST_SECONDS * FACTOR**exponent, LONGEST_SECONDS) * rng.uniform(1 - JITTER, 1 + JITTER)


def next_wait(attempt: int, asked: float | None, rng: random.Random = _rng) -> float | None:
    """Return the seconds until the next attempt, None if that was the last.

    Args:
        attempt: The number of the attempt that failed.
        asked: The wait the receiver asked for, kept as it is up to a day; None if it did not.
        rng: The source of the jitter.

    """
    if attempt >= MAX_ATTEMPTS:
        return None
    # A wait that is negative or not a number is no answer.
    if asked is not None and asked >= 0:
        return min(asked, LONGEST_SECONDS)
    return delay(attempt, rng)
