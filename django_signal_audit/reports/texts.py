"""Text that a terminal, a table cell and a mail show as it is, whatever somebody typed into a name."""

from __future__ import annotations

import re

# Control characters move the cursor, recolour the screen or retitle the window; the bidirectional ones reorder what
# is read; line and paragraph separators break a row; half a surrogate pair cannot be encoded at all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# On a page that breaks lines by itself and is read from either side, hints of direction do no harm and breaks are kept.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _NAMED.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def printable(text: str) -> str:
    r"""Return the text on one line with what a terminal would obey written as ``\x1b``."""
    return _UNPRINTABLE.sub(_escape, text)


def spelled_out(text: str) -> str:
    r"""Return the text with what nobody sees, and what turns other text around, written as ``\x1b``."""
    return _UNSEEN.sub(_escape, text)


def shorten(text: str, width: int) -> str:
    """Return at most ``width`` characters of the text, the last one an ellipsis if some were left out."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
