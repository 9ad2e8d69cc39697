"""How fast ``audit_prune --keep-last`` prunes on PostgreSQL, and how long a writer beside it waits.

Run as ``python -m benchmarks.pruning``. The writer saves one product at a time and pauses in between; it takes turns
with a writer that has nobody beside it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
from statistics import quantiles
from threading import Event

from .databases import database

OBJECTS = 1_000
_PER_OBJECT = 200
_KEPT = 50
# Between the saves of the writer.
PAUSE_SECONDS = 0.002
ALONE_SECONDS = 8
# Each object has its events one after the other, among those of all others.
_FILL = """
INSERT INTO django_signal_audit_auditevent (uid, recorded_at, event_type, source, level, rules, model, object_id,
    object_repr, actor_id, actor_repr, changes, data, context, correlation_id, signature)
SELECT gen_random_uuid(), now() - interval '30 days' + (version * %(objects)s + object) * interval '1 millisecond',
    'update', 'orm', 'info', '["shop"]', 'shop.article', object::text, 'Article ' || object, '', '',
    jsonb_build_object('stock', jsonb_build_array(version - 1, version)), '{}', '{}', 'request-' || version, 1
FROM generate_series(1, %(versions)s) version, generate_series(1, %(objects)s) object ORDER BY version, object
"""


def _write(seconds: float, is_over: Event) -> list[float]:
    """Return how long each save took."""
    from .shop.models import Product
    from .stock import values

    product = Product.objects.create(**values(0))
    end, taken = time.monotonic() + seconds, []
    while time.monotonic() < end and not is_over.is_set():
        product.stock += 1
        begun = time.perf_counter()
        product.save()
        taken.append(time.perf_counter() - begun)
        is_over.wait(PAUSE_SECONDS)
    product.delete()
    return taken


def _start(seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.pruning", "--worker", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _waits(writer: subprocess.Popen[str]) -> tuple[float, float]:
    """Return the median of a writer's times, and what 99 of 100 of them are below."""
    out, _ = writer.communicate()
    cuts = quantiles(json.loads(out), n=100)
    return cuts[49], cuts[98]


def _turn(objects: int) -> None:
    """Print the figures of a writer alone, and of one beside a prune."""
    from django.core.management import call_command
    from django.db import connection

    from django_signal_audit.models import AuditEvent

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE django_signal_audit_auditevent")
        cursor.execute(_FILL, {"objects": objects, "versions": _PER_OBJECT})
        cursor.execute("VACUUM ANALYZE django_signal_audit_auditevent")
    count = AuditEvent.objects.count()
    connection.close()
    alone = _waits(_start(ALONE_SECONDS))
    writer = _start(3600)
    time.sleep(1)  # until it writes
    begun = time.perf_counter()
    call_command("audit_prune", keep_last=_KEPT, stdout=io.StringIO())
    seconds = time.perf_counter() - begun
    writer.terminate()
    beside = _waits(writer)
    gone = count - AuditEvent.objects.filter(model="shop.article").count()
    figures = (f"{gone / seconds:,.0f}", *(f"{value * 1e3:.1f}" for at in (0, 1) for value in (alone[at], beside[at])))
    print(f"| {gone:,} | {' | '.join(figures)} | {os.getloadavg()[0]:.1f} |", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruning", description=__doc__)
    parser.add_argument("--objects", type=int, default=OBJECTS, help="each with 200 events (default 1,000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.evidence_settings"
    if arguments.worker:
        _work(arguments.worker)
        return
    with database("postgresql", 0) as entry:
        os.environ["BENCHMARK_DATABASE"] = json.dumps(entry)
        import django
        from django.core.management import call_command
        from django.db import connection

        django.setup()
        call_command("migrate", run_syncdb=True, verbosity=0)
        from .stock import lay_in

        lay_in()
        print(
            "| pruned | a second | median, alone | beside, ms | 99 %, alone | beside, ms | load |\n"
            + "| --- " * 7
            + "|"
        )
        try:
            for _ in range(arguments.rounds):
                _turn(arguments.objects)
        finally:
            connection.close()


def _work(seconds: float) -> None:
    import django

    django.setup()
    is_over = Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    print(json.dumps(_write(seconds, is_over)))


if __name__ == "__main__":
    main()
