"""Time-ordered identifiers (UUID version 7, RFC 9562), made in Python because not every database makes them."""

from __future__ import annotations

import sys
from uuid import UUID

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid6 import uuid7


def new_uid() -> UUID:
    """Return a new UUIDv7; migrations name this function, whichever library makes the value."""
    return UUID(int=uuid7().int)
