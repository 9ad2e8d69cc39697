"""The kind of an event: one number for its type, level, model and rules, so that one index serves every filter.

A log has few kinds, a few hundred where a project is large, and millions of events. Whoever looks for events of a rule
finds the kinds that have it first, and then the newest of each kind by the index.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import models


class Kind(NamedTuple):
    """What all events of one kind have in common."""

    event_type: str
    level: str
    model: str
    rules: tuple[str, ...]


@lru_cache(4096)
def signature_hash(kind: Kind) -> int:
    """Return the number of a kind: 53 bits of a hash, which JSON can hold; no table has to give it out."""
    digest = hashlib.blake2b(json.dumps(kind).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 11


class SignatureField(models.BigIntegerField):  # type: ignore[type-arg]  # generic in the stubs only
    """The number of an event's kind, worked out whenever the event is written."""

    def pre_save(self, model_instance: Any, add: bool) -> int:
        """Set and return the number."""
        return self.number(model_instance)

    @staticmethod
    def number(event: Any) -> int:
        """Set and return the number of an event."""
        event.kind = signature_hash(Kind(str(event.event_type), str(event.level), event.model, tuple(event.rules)))
        return int(event.kind)
