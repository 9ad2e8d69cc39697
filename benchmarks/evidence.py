"""What evidence costs: bytes and CPU time per event, and what a sealer takes away from those who write.

Run as ``python -m benchmarks.evidence``. CPU time says more than the clock where others use the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from .databases import TITLES, cpu_of, database, server_process

EVENTS = 200_000
WRITERS = 8
# Of other work in each transaction of a writer.
PAUSE_SECONDS = 0.005
_CHUNK = 2_000
_FIRST = 100
TABLES = ("django_signal_audit_auditleaf", "django_signal_audit_auditcheckpoint")


def fill(count: int, *, personal: bool = True) -> None:
    """Write events such as those of a shop: on average five personal values each, or none."""
    from django.utils import timezone

    from django_signal_audit.models import AuditEvent

    for start in range(0, count, _CHUNK):
        AuditEvent.objects.bulk_create(
            _event(AuditEvent, timezone.now(), number, personal=personal)
            for number in range(start, min(start + _CHUNK, count))
        )


def _event(model: Any, now: Any, number: int, *, personal: bool) -> Any:
    changes: dict[str, Any] = {"price": ["10.00", "9.00"], "stock": [number, number + 1]}
    if not personal:
        return model(recorded_at=now, event_type="update", source="orm", model="shop.product", changes=changes)
    if number % 2:
        changes["email"] = [f"{number}@example.com", f"{number}@example.org"]
    return model(
        recorded_at=now,
        event_type="update",
        source="orm",
        rules=["shop"],
        model="shop.product",
        object_id=str(number % 1000),
        object_repr=f"Product {number % 1000}",
        actor_id=str(number % 50),
        actor_repr=f"user{number % 50}",
        changes=changes,
        context={"request": {"method": "POST", "path": f"/admin/shop/product/{number % 1000}/", "ip": "10.0.0.1"}},
        correlation_id=f"{number:032x}",
    )


@contextmanager
def clocked(found: dict[str, float], name: str, count: int, server: int = 0) -> Iterator[None]:
    """Note events a second by the clock, and microseconds of CPU time per event, of children too.

    Args:
        found: Where they are noted.
        name: What is measured.
        count: How many events.
        server: The process of PostgreSQL that works for this one, 0 for none that can be asked.

    """
    begin, used, server_used = time.perf_counter(), _cpu(), cpu_of(server)
    yield
    found[f"{name}, events/s"] = count / (time.perf_counter() - begin)
    found[f"{name}, CPU µs/event"] = (_cpu() - used) / count * 1e6
    if server:
        found[f"{name}, server's CPU µs/event"] = (cpu_of(server) - server_used) / count * 1e6


def _cpu() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _bytes(tables: tuple[str, ...]) -> int:
    """Return what tables take on the disk, with their indexes."""
    from django.db import connection

    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for table in tables:
                cursor.execute(f"VACUUM ANALYZE {table}")
            cursor.execute(f"SELECT {' + '.join(f'pg_total_relation_size({table!r})' for table in tables)}")
        else:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        return int(cursor.fetchone()[0])


def measure(events: int) -> dict[str, float]:
    """Return what was measured on a database, by name."""
    from django.core.management import call_command
    from django.db import connection

    from django_signal_audit.evidence.sealing import seal
    from django_signal_audit.evidence.verification import Verifier
    from django_signal_audit.models import AuditLeaf

    call_command("migrate", run_syncdb=True, verbosity=0)
    found: dict[str, float] = {}
    plain = min(events // 4, 40_000)
    # What the tables take for their first rows, such as maps of their pages, says nothing about the others.
    fill(_FIRST, personal=False)
    before = _bytes(TABLES)
    seal("default")
    found[f"KB for the first {_FIRST} events"] = (_bytes(TABLES) - before) / 1024
    fill(plain, personal=False)
    before = _bytes(TABLES)
    seal("default")
    found["bytes/event"] = per_event = (_bytes(TABLES) - before) / plain
    fill(events)
    before = _bytes(TABLES)
    with clocked(found, "seal", events, server_process()):
        seal("default")
    found["bytes/personal value"] = ((_bytes(TABLES) - before) / events - per_event) / 5
    connection.close()
    leaves = AuditLeaf.objects.count()
    with clocked(found, "verify, 1 process", leaves, server_process()):
        assert not list(Verifier("default").findings())
    # Each of them has a connection of its own, and begins with the import of Django.
    with clocked(found, "verify, 2 processes", leaves):
        assert not list(Verifier("default", jobs=2).findings())
    found["MB at the peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def measure_writers(seconds: float, rounds: int) -> dict[str, float]:
    """Return transactions a second of eight writers, alone and with a sealer beside them, in turns."""
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", run_syncdb=True, verbosity=0)
    rates: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * rounds):
        # Who begins changes from round to round: whatever grows or slows down hits both.
        is_sealed = number % 4 in (1, 2)
        connections.close_all()
        rates[is_sealed].append(_turn(seconds, is_sealed=is_sealed))
    ratios = [sealed / alone for alone, sealed in zip(rates[False], rates[True], strict=True)]
    return {
        "alone, tx/s": median(rates[False]),
        "sealer beside, tx/s": median(rates[True]),
        "ratio": median(ratios),
        "lowest ratio": min(ratios),
        "load of the machine": os.getloadavg()[0],
    }


def _turn(seconds: float, *, is_sealed: bool) -> float:
    end = time.monotonic() + seconds
    works: list[Callable[[], int]] = [lambda: _write(end)] * WRITERS
    pipes = [_forked(work) for work in works]
    sealer = _forked(lambda: _seal_until(end)) if is_sealed else None
    count = sum(map(_result, pipes))
    if sealer is not None:
        _result(sealer)
    return count / seconds


def _write(end: float) -> int:
    from django.db import transaction

    from .shop.models import Tag

    count = 0
    while time.monotonic() < end:
        with transaction.atomic():
            Tag.objects.create(name=f"{os.getpid()} {count}")
            time.sleep(PAUSE_SECONDS)
        count += 1
    return count


def _seal_until(end: float) -> int:
    """Seal once a second, sixty times as often as by default."""
    from django_signal_audit.evidence.sealing import Sealer

    sealed = 0
    while time.monotonic() < end:
        sealed += Sealer("default").run().sealed
        time.sleep(1)
    return sealed


def _forked(work: Callable[[], int]) -> tuple[int, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(work()).encode())
        os._exit(0)
    os.close(writing)
    return child, reading


def _result(forked: tuple[int, int]) -> int:
    with os.fdopen(forked[1]) as pipe:
        text = pipe.read()
    os.waitpid(forked[0], 0)
    return int(text)


def _in_a_process(kind: str, number: int, *arguments: str) -> dict[str, float]:
    with database(kind, number) as entry:
        settings = {"DJANGO_SETTINGS_MODULE": "benchmarks.evidence_settings", "BENCHMARK_DATABASE": json.dumps(entry)}
        command = [sys.executable, "-m", "benchmarks.evidence", "--worker", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env={**os.environ, **settings})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print tables, or in a worker one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--events", type=int, default=EVENTS, help="to seal and verify (default 200,000)")
    parser.add_argument("--seconds", type=float, default=10, help="of a turn of the writers (default 10)")
    parser.add_argument("--rounds", type=int, default=5, help="how many turns the writers take each way (default 5)")
    parser.add_argument("--only", choices=["costs", "writers"])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        import django

        django.setup()
        is_costs = arguments.only == "costs"
        found = measure(arguments.events) if is_costs else measure_writers(arguments.seconds, arguments.rounds)
        print(json.dumps(found))
        return
    if arguments.only != "writers":
        for kind in arguments.databases:
            found = _in_a_process(kind, 0, "--only", "costs", "--events", str(arguments.events))
            _print(TITLES[kind], found)
    if arguments.only != "costs" and "postgresql" in arguments.databases:
        seconds, rounds = str(arguments.seconds), str(arguments.rounds)
        found = _in_a_process("postgresql", 1, "--only", "writers", "--seconds", seconds, "--rounds", rounds)
        _print(f"{WRITERS} writers on PostgreSQL", found)


def _print(title: str, found: dict[str, float]) -> None:
    print(f"\n| {title} | |\n| --- | --- |")
    for name, value in found.items():
        print(f"| {name} | {value:,.{0 if value > 100 else 2}f} |", flush=True)


if __name__ == "__main__":
    main()
