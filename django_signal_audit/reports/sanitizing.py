"""Text that a terminal, a table cell and a mail show as it is, whatever somebody typed into a name."""

from __future__ import annotations

import re

from django_signal_audit.events.safe_text import escape
from django_signal_audit.events.safe_text import printable as printable

# On a page that breaks lines by itself and is read from either side, hints of direction do no harm and breaks are kept.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def spelled_out(text: str) -> str:
    r"""Return the text with what nobody sees, and what turns other text around, written as ``\x1b``."""
    return _UNSEEN.sub(escape, text)


def shorten(text: str, width: int) -> str:
    """Return at most ``width`` characters of the text, the last one an ellipsis if some were left out."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
