"""No "database is locked" that the plain program would not have: writers and readers of one SQLite file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from .processes.stage import EVERYTHING, THOROUGH, choose, databases, run
from .processes.work import is_locking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="the locks of a SQLite file"),
]


def options(mode: str | None, journal: str) -> dict[str, Any]:
    """Return OPTIONS: how a transaction begins, and how the file keeps its journal."""
    return {"transaction_mode": mode, "init_command": f"PRAGMA journal_mode={journal}"}


WAYS: list[tuple[str | None, str]] = [("DEFERRED", "wal"), (None, "delete")]
if THOROUGH:
    WAYS += [("IMMEDIATE", "wal"), ("IMMEDIATE", "delete"), ("DEFERRED", "delete"), ("EXCLUSIVE", "wal")]


@pytest.mark.parametrize(("mode", "journal"), WAYS)
def test_somebody_who_writes_between_any_two_statements(mode: str | None, journal: str, tmp_path: Path) -> None:
    """Whoever reads first and writes later is told "locked" at once, without a wait, if somebody wrote in between."""
    entries = databases(tmp_path, timeout=0.1, **options(mode, journal))
    report = run("locks", databases=entries, audit={}, seed=choose(3, 7))
    assert report["audited"].items() <= report["plain"].items()
    assert report["unread"] == 0
    # It was as it should be: somebody did write, something was recorded, and who reads first is late.
    assert report["written"] > report["operations"]
    assert report["recorded"] > 20
    assert ("read_then_write" in report["plain"]) is (mode in ("DEFERRED", None) and journal == "wal")


@pytest.mark.parametrize("mode", ["DEFERRED", None])
def test_writers_wait_for_each_other(mode: str | None, tmp_path: Path) -> None:
    report = run(
        "rivals",
        databases=databases(tmp_path, **options(mode, "wal")),
        audit=EVERYTHING,
        processes=4,
        seed=13,
        count=choose(15, 200),
        steps=["create", "save", "save_fields", "update", "update_keys", "bulk_create", "members_add", "delete"],
    )
    assert report["proof"]["problems"] == []
    assert report["proof"]["events"] > 60
    assert [kind for kind in report["errors"] if is_locking(kind)] == []
