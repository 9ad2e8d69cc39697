"""A backend that wraps one of Django's own, as those that count queries do."""

from __future__ import annotations

from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite


class DatabaseWrapper(SQLite):
    pass
