"""Why a change cannot be put back."""

from __future__ import annotations


class RefusedError(Exception):
    """The change cannot be put back, for the reason that is the message."""
