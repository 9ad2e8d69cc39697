"""Clean histories: several write at random, others seal and verify meanwhile, and nobody may raise an alarm."""

from __future__ import annotations

import random
import time
from typing import Any

from django_signal_audit.evidence.sealing import Sealer
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.models import AuditEvent, AuditLeaf
from tests.processes.stage import together
from tests.processes.work import Writer

# How many histories one set of processes writes, one after the other.
_AT_ONCE = 10


def main(histories: int, seed: int) -> dict[str, Any]:
    """Write so many histories, and report what the verifier said of them.

    Args:
        histories: How many.
        seed: What the random choices depend on.

    """
    report: dict[str, Any] = {"histories": 0, "verified": 0, "rolled_back": 0, "problems": []}
    for first in range(0, histories, _AT_ONCE):
        works = [_writing(seed + first * 100 + number) for number in range(3)]
        *written, _sealed, verified = together([*works, _sealing(seed + first), _verifying])
        report["rolled_back"] += sum(count for part in written for count in part["errors"].values())
        report["verified"] += verified["count"]
        report["problems"] += verified["problems"] + _problems()
        report["histories"] += _AT_ONCE
    Sealer("default", is_full=True).run()
    report["problems"] += _problems()
    events = set(AuditEvent.objects.values_list("uid", flat=True))
    missing = events ^ set(AuditLeaf.objects.values_list("event", flat=True))
    return {**report, "events": len(events), "leaves": AuditLeaf.objects.count(), "missing": len(missing)}


def _writing(seed: int) -> Any:
    return lambda: Writer(seed, retries=5).write(count=5 * _AT_ONCE)


def _sealing(seed: int) -> Any:
    """Return what seals in batches of any size as long as something new comes."""

    def seal() -> None:
        chance, last = random.Random(seed), time.monotonic()
        while time.monotonic() - last < 1:
            if Sealer("default", batch_size=chance.randint(1, 30)).run().sealed:
                last = time.monotonic()
            time.sleep(chance.random() / 20)

    return seal


def _verifying() -> dict[str, Any]:
    """Verify again and again as long as the log grows."""
    found: dict[str, Any] = {"count": 0, "problems": []}
    last, size = time.monotonic(), -1
    while time.monotonic() - last < 1:
        verifier = Verifier("default")
        found["problems"] += [f"{finding.kind}: {finding.detail}" for finding in verifier.findings()]
        found["count"] += 1
        if verifier.verdict.size != size:
            last, size = time.monotonic(), verifier.verdict.size
    return found


def _problems() -> list[str]:
    return [f"{finding.kind} {finding.index}: {finding.detail}" for finding in Verifier("default").findings()]
