"""Time-ordered identifiers (UUID version 7, RFC 9562), made in Python because not every database makes them."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from uuid import UUID

_NANOSECONDS = 1_000_000  # in a millisecond
# The highest of the random bits behind the variant: without it, a series has room to count.
_ROOM = 1 << 61


def _number() -> int:
    """Return the 128 bits: milliseconds, their fraction in twelve bits (section 6.2, method 3), and chance."""
    milliseconds, rest = divmod(time.time_ns(), _NANOSECONDS)
    return milliseconds << 80 | 7 << 76 | (rest << 12) // _NANOSECONDS << 64 | 2 << 62 | secrets.randbits(62)


def new_uid() -> UUID:
    """Return a new UUIDv7; migrations name this function."""
    return UUID(int=_number())


def new_uids() -> Iterator[UUID]:
    """Yield UUIDv7s that ascend by random steps from one moment on (section 6.2, method 2)."""
    number = _number() & ~_ROOM
    while True:
        yield UUID(int=number)
        number += 1 + random.getrandbits(32)  # a name, not a secret
