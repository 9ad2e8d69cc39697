"""Makes the tables of all databases."""

from __future__ import annotations

from django.core.management import call_command
from django.db import connections


def main(*apps: str) -> list[str]:
    for alias in connections:
        call_command("migrate", *apps, database=alias, run_syncdb=True, verbosity=0)
    return list(connections)
