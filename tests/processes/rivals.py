"""Writers that meet on the same few rows, and whether the trail is true afterwards."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import Any

from tests.processes.proof import prove
from tests.processes.stage import together
from tests.processes.work import KNOWN, STEPS, Category, Person, Product, Tag, Writer

# What would make more rows is left out of what is done on the same ones.
SPREADING = {"create", "create_others", "bulk_create", "rolled_back"}
HOT = [step for step in STEPS if step.__name__ not in SPREADING]


def main(
    processes: int, seed: int, count: int, *, steps: list[str] | None = None, audited: bool = True
) -> dict[str, Any]:
    """Let processes write at the same time, each repeating what failed on a lock.

    Args:
        processes: How many.
        seed: What the random choices depend on.
        count: How many operations each of them does.
        steps: The names of the operations; all that keep to the same rows if None.
        audited: Whether there is a trail to compare.

    """
    prepare()
    chosen = HOT if steps is None else [step for step in STEPS if step.__name__ in steps]
    start = time.time() + 0.2
    works = [partial(_write, start, seed * 100 + number, chosen, count) for number in range(processes)]
    done: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for report in together(works):
        done.update(report["done"])
        errors.update(report["errors"])
    proof = prove() if audited else None
    return {"done": done, "errors": errors, "proof": proof and proof.as_dict()}


def prepare() -> None:
    """Make the rows that the writers meet on."""
    for key in KNOWN:
        Product.objects.create(pk=key, name="oak")
    for model, number in ((Tag, 4), (Category, 3), (Person, 3)):
        for _ in range(number):
            model.objects.create(name="elm")


def _write(start: float, seed: int, steps: list[Any], count: int) -> Any:
    time.sleep(max(0, start - time.time()))
    return Writer(seed, retries=20, steps=steps).write(count=count)
