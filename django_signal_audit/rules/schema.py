"""Rule: what is audited, when it matters, and who gets notified."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of ``SIGNAL_AUDIT["RULES"]``; a dict with the same keys does as well.

    A rule audits models (``model``), a custom signal (``signal`` and ``event``), or named events only (``events``).
    Nothing is validated here, so that ``manage.py check`` can report every mistake at once.
    """

    name: str
    model: str | Sequence[str] = ""
    signal: str = ""
    event: str = ""
    events: Sequence[str] = ()
    fields: Sequence[str] = ()
    exclude: Sequence[str] = ()
    mask: Sequence[str] = ()
    personal: Sequence[str] = ()
    include: Sequence[str] = ()
    when: str | Mapping[str, Any] | None = None
    notify: Sequence[str | Mapping[str, Any]] = ()
    subject: str = ""
    message: str = ""
    level: str = "info"
    paths: Sequence[str] = ()
    methods: Sequence[str] = ()
    window: str = ""
    retention: str | dt.timedelta | Mapping[str, int] = ""
    locked: bool = False
    enabled: bool = True

    @property
    def models(self) -> tuple[str, ...]:
        """Return the model patterns in lower case, none for a rule without a model."""
        patterns = [self.model] if isinstance(self.model, str) else self.model
        return tuple(pattern.lower() for pattern in patterns if pattern)


RULE_KEYS: tuple[str, ...] = tuple(item.name for item in fields(Rule))


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyEntry:
    """One channel a rule notifies, with what the rule sets for it in place of the channel's own."""

    channel: str
    to: tuple[str, ...] | None = None
    subject: str = ""
    message: str = ""
    digest: str = ""
    throttle: str = ""
    opt_in: bool = False

    @classmethod
    def of(cls, entry: str | Mapping[str, Any]) -> NotifyEntry:
        """Return the entry for an alias or a dict of the ``notify`` list."""
        if isinstance(entry, str):
            return cls(channel=entry)
        options = dict(entry)
        to = options.get("to")
        if to is not None:
            options["to"] = (to,) if isinstance(to, str) else tuple(to)
        return cls(**options)


NOTIFY_KEYS: tuple[str, ...] = tuple(item.name for item in fields(NotifyEntry))
