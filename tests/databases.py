"""The databases of a test run: SQLite unless the environment points at a server."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
    "mariadb": "django.db.backends.mysql",
}


def database(url: str, suffix: str = "") -> dict[str, Any]:
    """Return the entry of DATABASES for a URL such as ``postgresql://user:secret@127.0.0.1:5432/name``.

    With ``?pool=1`` psycopg 3 keeps a pool of its connections.
    """
    parts = urlsplit(url)
    engine = ENGINES[parts.scheme]
    if parts.scheme == "sqlite":
        return {
            "ENGINE": engine,
            "NAME": ":memory:",
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
        }
    return {
        "ENGINE": engine,
        "NAME": parts.path.lstrip("/") + suffix,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": {"pool": {"max_size": 20}} if parse_qs(parts.query).get("pool") == ["1"] else {},
    }


URL = os.environ.get("AUDIT_TEST_DATABASE_URL", "sqlite://")
DATABASES = {"default": database(URL), "other": database(URL, "_other")}
