"""A database of its own for every contender, made by the benchmark and removed at its end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
SERVER = os.environ.get("BENCHMARK_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


# With WAL this is the usual setting; waiting for the disk at every commit would hide what the packages cost.
SQLITE_PRAGMAS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"


def _sqlite(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": SQLITE_PRAGMAS},
    }


def _postgresql(name: str) -> dict[str, Any]:
    parts = urlsplit(SERVER)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
    }


def _administer(statement: str) -> None:
    import psycopg

    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(statement)


@contextmanager
def database(kind: str, number: int) -> Iterator[dict[str, Any]]:
    """Yield the entry of DATABASES for an empty database of that kind; the number tells a run's databases apart."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="signal_audit_benchmark_") as folder:
            yield _sqlite(Path(folder) / "benchmark.sqlite3")
        return
    name = f"signal_audit_benchmark_{os.getpid()}_{number}"
    _administer(f'CREATE DATABASE "{name}"')
    try:
        yield _postgresql(name)
    finally:
        _administer(f'DROP DATABASE "{name}" WITH (FORCE)')


def server_process() -> int:
    """Return the process of PostgreSQL that works for this one, 0 if it isn't on this machine."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        found = int(cursor.fetchone()[0])
    try:
        return found if "postgres" in Path(f"/proc/{found}/comm").read_text() else 0
    except OSError:
        return 0


def cpu_of(process: int) -> float:
    """Return the CPU time of a process in seconds."""
    if not process:
        return 0.0
    columns = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")
