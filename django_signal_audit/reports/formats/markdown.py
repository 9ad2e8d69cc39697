"""A Markdown table, for issues, wikis and mails."""

from __future__ import annotations

import re

from django_signal_audit.reports.display import printable

from .base import TextTable

# What could end the cell, start markup or HTML, or make a link. An underscore in a word (login_failed) starts nothing.
_MARKUP = re.compile(r"[\\`*\[\]<>|~&]|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])", re.IGNORECASE)


class MarkdownFormat(TextTable):
    """A heading and a GitHub-flavoured table."""

    style = "pipe"
    heading_mark = "# "
    line_break = "<br>"

    def escape(self, text: str) -> str:
        """Return the text without what is markup in it."""
        return _MARKUP.sub(lambda match: f"\\{match[0]}", printable(text))
