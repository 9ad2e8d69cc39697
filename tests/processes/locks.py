"""One writer, and a rival who writes to the same SQLite file before every statement at which he gets the lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from django.db import OperationalError, connection, connections, transaction
from django.test import override_settings

from django_signal_audit.models import AuditEvent
from tests.app.models import Pizzeria, Place, Product, Restaurant
from tests.processes.rivals import prepare
from tests.processes.stage import EVERYTHING, Child
from tests.processes.work import STEPS, Writer, kind_of


def read_then_write(at: Writer) -> None:
    """Write in a transaction that has read: too late, if somebody wrote in between."""
    with transaction.atomic():
        product = at.row(Product)
        product.name = "too late"
        product.save()


def write_then_read_then_write(at: Writer) -> None:
    with transaction.atomic():
        at.rows(Product).update(stock=3)
        product = at.row(Product)
        product.name = "in time"
        product.save()


def update_parents(at: Writer) -> None:
    at.rows(Pizzeria).filter(stars=0).update(name="x", oven="gas")
    at.rows(Restaurant).filter(name="x").update(name="y")


def save_as_parent(at: Writer) -> None:
    for place in at.rows(Place):
        place.name = "z"
        place.save()


OWN_STEPS = [read_then_write, write_then_read_then_write, update_parents, save_as_parent]


def main(seed: int) -> dict[str, Any]:
    """Let every kind of write be the first of a process, plain and audited, on the same rows.

    Args:
        seed: What the random choices depend on.

    Returns:
        By operation, what went wrong: ``plain`` and ``audited``; how many operations there were, how many of them
        recorded something, how often the rival wrote, and how often he was not let read.

    """
    report: dict[str, Any] = {"plain": {}, "audited": {}, "operations": 0, "recorded": 0, "written": 0, "unread": 0}
    path = Path(connections["default"].settings_dict["NAME"])
    Child(_prepare).result()
    before = path.read_bytes()
    for step in [*STEPS, *OWN_STEPS]:
        report["operations"] += 1
        for name, audit in (("plain", {}), ("audited", EVERYTHING)):
            path.write_bytes(before)
            found = Child(partial(_write, step, seed, audit)).result()
            report[name] |= found["errors"]
            report["recorded"] += found["recorded"]
            report["written"] += found["written"]
            report["unread"] += found["unread"]
    return report


def _prepare() -> None:
    prepare()
    for number in range(3):
        Pizzeria.objects.create(name=f"pizza {number}")


class Rival:
    """Somebody else with the file open, who does not wait."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(connection.settings_dict["NAME"], timeout=0, isolation_level=None)
        self.written = self.unread = 0

    def __call__(self, execute: Any, *args: Any) -> Any:
        """Read and write if it is possible, and let the statement run."""
        try:
            self.connection.execute("SELECT count(*) FROM app_product").fetchall()
        except sqlite3.OperationalError:
            self.unread += 1
        try:
            self.connection.execute("INSERT INTO app_unaudited (name) VALUES ('rival')")
            self.written += 1
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        return execute(*args)


@contextmanager
def rivalry() -> Iterator[Rival]:
    rival = Rival()
    try:
        with connection.execute_wrapper(rival):
            yield rival
    finally:
        rival.connection.close()


def _write(step: Any, seed: int, audit: dict[str, Any]) -> dict[str, Any]:
    errors = {}
    with override_settings(SIGNAL_AUDIT=audit), rivalry() as rival:
        try:
            step(Writer(seed))
        except OperationalError as error:
            errors[step.__name__] = kind_of(error)
    recorded = AuditEvent.objects.exists()
    return {"errors": errors, "recorded": recorded, "written": rival.written, "unread": rival.unread}
