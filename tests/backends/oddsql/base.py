"""A backend of a database that is none of Django's own."""

from __future__ import annotations

from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite


class DatabaseWrapper(SQLite):
    vendor = "oddsql"
    display_name = "OddSQL"
