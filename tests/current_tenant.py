"""A function for the setting TENANT, and where it says that the process is."""

from __future__ import annotations

FUNCTION = f"{__name__}.tenant"
_now = ""


def tenant() -> str:
    return _now


def here(value: str) -> None:
    """Say which tenant is current; ``""`` for none."""
    global _now
    _now = value
