"""A million rows updated by one QuerySet.update: the memory it takes at its peak, and the time.

Run as ``python -m benchmarks.memory``; every measurement is made in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .contenders import Contender, contender
from .databases import TITLES, database
from .worker import set_up

CONTENDERS = ("plain Django", "django-signal-audit")
BATCH = 5_000


def _peak() -> int:
    """Return the most memory this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # The resource module's figure starts at what the parent had when it forked.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _multiply(rows: int) -> None:
    """Fill the table inside the database, so that Python's peak stays where it was."""
    from django.db import connection

    from .shop.models import Product
    from .stock import fill

    fill(Product, min(rows, BATCH))
    columns = [field.column for field in Product._meta.local_concrete_fields if not field.primary_key]
    copied = ", ".join("sku || '-' || copy" if column == "sku" else column for column in columns)
    table = Product._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)})"
            " WITH RECURSIVE copies(copy) AS (SELECT 1 UNION ALL SELECT copy + 1 FROM copies WHERE copy < %s)"
            f" SELECT {copied} FROM {table}, copies LIMIT %s",
            [-(-rows // BATCH), rows - min(rows, BATCH)],
        )


def _measure(one: Contender, entry: dict[str, Any], rows: int) -> dict[str, float]:
    set_up(one, entry)
    from django.db.models import F

    from .shop.models import Product
    from .stock import settle

    _multiply(rows)
    # A first call, of one row, imports and compiles what every call needs.
    Product.objects.filter(pk=Product.objects.order_by("pk").values("pk")[:1]).update(price=F("price") + 1)
    settle()
    logged, before, start = one.logged(), _peak(), time.perf_counter()
    updated = Product.objects.update(price=F("price") + 1)
    seconds, after = time.perf_counter() - start, _peak()
    return {"rows": updated, "events": one.logged() - logged, "seconds": seconds, "bytes": after - before}


def _run(name: str, kind: str, number: int, rows: int) -> dict[str, float]:
    with database(kind, number) as entry:
        command = [sys.executable, "-m", "benchmarks.memory", "--worker", name, json.dumps(entry), "--rows", str(rows)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a table, or in a worker one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, entry = arguments.worker
        print(json.dumps(_measure(contender(name), json.loads(entry), arguments.rows)))
        return
    print("| | database | rows updated | events | memory at the peak | time |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in arguments.databases:
        for number, name in enumerate(CONTENDERS):
            found = _run(name, kind, number, arguments.rows)
            print(
                f"| {name} | {TITLES[kind]} | {found['rows']:,.0f} | {found['events']:,.0f} |"
                f" +{found['bytes'] / 1e6:,.1f} MB | {found['seconds']:,.1f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
