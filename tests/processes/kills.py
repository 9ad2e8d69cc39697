"""Writers that are killed in the middle, and whether the tables and the trail agree afterwards."""

from __future__ import annotations

import random
import time
from typing import Any

from tests.processes.proof import prove
from tests.processes.stage import Child
from tests.processes.work import Writer


def main(rounds: int, writers: int, seed: int, longest: float) -> dict[str, Any]:
    """Start writers and kill them, again and again.

    Args:
        rounds: How often.
        writers: How many at a time.
        seed: What the random choices depend on.
        longest: The longest life of a writer in seconds.

    """
    chance = random.Random(seed)
    report: dict[str, Any] = {"kills": 0, "comparisons": 0, "rows": 0, "events": 0, "problems": []}
    report |= Writer(seed).write(count=150)
    for number in range(rounds):
        children = [Child(Writer(seed * 1000 + number * 10 + index, retries=5).write) for index in range(writers)]
        for child in children:
            life = chance.uniform(0.02, longest / writers)
            time.sleep(life)
            child.kill()
            report["kills"] += 1
        proof = prove()
        report["comparisons"] += 1
        report["rows"] += proof.rows
        report["events"] = proof.events
        report["notifications"] = proof.notifications
        report["problems"] += proof.problems
        if proof.problems:
            break
    return report
