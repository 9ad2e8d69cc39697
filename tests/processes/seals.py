"""Sealers and writers that are killed, at every statement and at random moments: every event has exactly one leaf."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

from django.db import connection, connections

from django_signal_audit.evidence.sealing import Sealer
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.models import AuditEvent, AuditLeaf
from tests.processes.stage import Child
from tests.processes.work import Writer


def main(rounds: int, seed: int, longest: float) -> dict[str, Any]:
    """Kill sealers at each of their statements, then sealers and writers at random.

    Args:
        rounds: How often two sealers and two writers are killed at random.
        seed: What the random choices depend on.
        longest: The longest life of a process in seconds.

    """
    report: dict[str, Any] = {"statements": 0, "kills": 0, "problems": []}
    report |= Writer(seed).write(count=60)
    statement = 1
    while _ends_at(statement, after=False) or _ends_at(statement, after=True):
        report["problems"] += _problems()
        Writer(seed + statement).write(count=12)
        report["statements"] = statement
        statement += 1
    chance = random.Random(seed)
    for number in range(rounds):
        works: list[Callable[[], Any]] = [_seal_on] * 2
        works += [Writer(seed * 1000 + number * 10 + index, retries=5).write for index in range(2)]
        children = [Child(work) for work in works]
        for child in children:
            time.sleep(chance.uniform(0.02, longest))
            child.kill()
            report["kills"] += 1
        report["problems"] += _problems()
    Sealer("default", is_full=True).run()
    events, leaves = AuditEvent.objects.count(), AuditLeaf.objects.count()
    sealed = set(AuditLeaf.objects.values_list("event", flat=True))
    missing = set(AuditEvent.objects.values_list("uid", flat=True)) ^ sealed
    return {**report, "events": events, "leaves": leaves, "missing": len(missing), "problems": report["problems"]}


def _seal_on() -> None:
    while True:
        Sealer("default", batch_size=7).run()


def _ends_at(number: int, *, after: bool) -> bool:
    """Seal in a process that ends before or after its n-th statement, and return whether it had so many."""

    def seal() -> bool:
        count = 0

        def execute(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal count
            count += 1
            if count == number and not after:
                os._exit(137)
            result = run(sql, params, many, context)
            if count == number:
                os._exit(137)
            return result

        with connection.execute_wrapper(execute):
            Sealer("default", batch_size=30).run()
        return False

    connections.close_all()
    child = os.fork()
    if child == 0:
        seal()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137


def _problems() -> list[str]:
    return [f"{finding.kind} {finding.index}: {finding.detail}" for finding in Verifier("default").findings()]
