"""What is typed into the search bar: filters such as ``actor:bruno``, and free text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from django_signal_audit.events.values import clean_text

FILTERS = (
    "actor", "object", "model", "field", "event", "rule", "level", "reason", "request", "tenant", "after", "before",
)  # fmt: skip
# Nobody types more; what is longer was pasted by mistake.
MAX_LENGTH = 2000
# A name and a colon, then a text in quotes, of which the last may be missing, or anything up to a space.
_TERM = re.compile(r'(?:([^\W\d_]+):)?(?:"([^"]*)"?|(\S*))')


@dataclass(slots=True)
class Parsed:
    """A search that was typed in.

    Attributes:
        terms: The names of filters with their values.
        text: What is no filter.
        error: What is wrong with it; nothing is searched then.

    """

    terms: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""
    error: str = ""


def parse(typed: str, filters: Sequence[str] = FILTERS) -> Parsed:
    """Return what was typed in, taken apart; ``filters`` are the names that may stand before a colon."""
    found, words = Parsed(), []
    if len(typed) > MAX_LENGTH:
        found.error = _("The search is too long: %(most)s characters are the limit.") % {"most": MAX_LENGTH}
        return found
    for match in _TERM.finditer(clean_text(typed.strip())):
        name, quoted, plain = match.groups()
        value = (plain if quoted is None else quoted).strip()
        if name is None:
            words.append(value)
        elif name.lower() not in filters:
            found.error = found.error or _unknown(name, filters)
        elif not value:
            found.error = found.error or _("“%(name)s:” needs a value, such as %(name)s:bruno.") % {"name": name}
        else:
            found.terms.append((name.lower(), value))
    found.text = " ".join(filter(None, words))
    return found


def _unknown(name: str, filters: Sequence[str]) -> str:
    text = _("“%(name)s:” isn't a search filter. Use %(filters)s. To search for text with a colon, quote it.")
    return text % {"name": name, "filters": ", ".join(f"{one}:" for one in filters)}
