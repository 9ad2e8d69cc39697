"""Time-ordered identifiers (UUID version 7, RFC 9562), made in Python because not every database makes them."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from uuid import UUID

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid6 import uuid7


def new_uid() -> UUID:
    """Return a new UUIDv7; migrations name this function, whichever library makes the value."""
    return UUID(int=uuid7().int)


# The highest of the random bits behind the variant: without it, a series has room to count.
_ROOM = 1 << 61


def new_uids() -> Iterator[UUID]:
    """Yield UUIDv7s that ascend by random steps from one moment on (RFC 9562, section 6.2, method 2)."""
    number = uuid7().int & ~_ROOM
    while True:
        yield UUID(int=number)
        number += 1 + random.getrandbits(32)  # a name, not a secret
