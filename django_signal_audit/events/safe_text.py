"""Text that a terminal, a log and a table cell show as it is, whatever somebody typed into a name."""

from __future__ import annotations

import re

# Control characters move the cursor, recolour the screen or retitle the window; the bidirectional ones reorder what
# is read; what has no width is not seen; line and paragraph separators break a row; half a surrogate pair cannot be
# encoded at all.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(match: re.Match[str]) -> str:
    """Return a character as Python would write it in a string."""
    code = ord(match[0])
    return _NAMED.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def printable(text: str) -> str:
    r"""Return the text on one line with what a terminal would obey written as ``\x1b``."""
    return _UNPRINTABLE.sub(escape, text)
