"""Many processes that do the same thing at the same moment."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from django.db import connection

from django_signal_audit.models import AuditEvent
from tests.processes.proof import prove
from tests.processes.stage import together
from tests.processes.work import Country, Product, Tag, upsert_options


def main(processes: int, rounds: int, what: str) -> dict[str, Any]:
    """Let all do it, again and again, and count the events.

    Args:
        processes: How many processes.
        rounds: How often.
        what: ``"pairs"`` or ``"upsert"``.

    """
    Product.objects.create(pk=1, name="oak")
    Tag.objects.bulk_create([Tag(pk=number + 1, name="elm") for number in range(rounds)])
    start = time.time() + 0.3
    act, count = {"pairs": (_add, _count_added), "upsert": (_upsert, _count_created)}[what]
    together(partial(_act, act, start, number, rounds) for number in range(processes))
    problems = [f"{found} in round {number}" for number in range(rounds) if (found := count(number)) != 1]
    return {"problems": problems + prove().problems, "rounds": rounds}


def _act(act: Any, start: float, number: int, rounds: int) -> int:
    connection.ensure_connection()
    for step in range(rounds):
        # All at the same moment, or what a computer takes for one.
        time.sleep(max(0, start + step * 0.05 - time.time()))
        act(step, number)
    return rounds


def _add(step: int, _number: int) -> None:
    Product.objects.get().tags.add(step + 1)


def _count_added(step: int) -> int:
    changes = AuditEvent.objects.filter(event_type="m2m").values_list("changes", flat=True)
    return sum(step + 1 in change["tags"]["added"] for change in changes)


def _upsert(step: int, number: int) -> None:
    Country.objects.bulk_create([Country(code=f"C{step}", name=f"by {number}")], **upsert_options("default"))


def _count_created(step: int) -> int:
    created = AuditEvent.objects.filter(event_type="create", object_id=f"C{step}").count()
    # Two racing first upserts may both read as create on MySQL and MariaDB.
    return min(created, 1) if connection.vendor == "mysql" else created
