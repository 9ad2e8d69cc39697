"""What an import costs as it grows: rows a second, and the CPU time of each row on both sides.

Run as ``python -m benchmarks.imports``. It imports django-auditlog's log, with ten rows for each object, into
PostgreSQL. No other package is needed: the table is made here, with the indexes that it has there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time

from .databases import cpu_of, database, server_process

ROWS = 1_000_000
_PER_OBJECT = 10
_TABLE = """
CREATE TABLE auditlog_logentry (
    id bigserial PRIMARY KEY, content_type_id integer NOT NULL, object_pk varchar(255) NOT NULL, object_id bigint,
    object_repr text NOT NULL, action smallint NOT NULL, changes jsonb, changes_text text NOT NULL DEFAULT '',
    timestamp timestamptz NOT NULL, actor_id integer, remote_addr inet, additional_data jsonb, cid varchar(255))
"""
# Each object is created, and its name changed nine times, a day apart.
_FILL = """
INSERT INTO auditlog_logentry (content_type_id, object_pk, object_id, object_repr, action, changes, timestamp,
    remote_addr, cid)
SELECT %(content_type)s, o::text, o, 'tag ' || v, least(v, 1),
    jsonb_build_object('name', jsonb_build_array(CASE v WHEN 0 THEN 'None' ELSE 'tag ' || v - 1 END, 'tag ' || v)),
    '2024-01-01 00:00:00+00'::timestamptz + v * interval '1 day' + o * interval '0.1 s', '10.0.0.1',
    md5((o * 10 + v)::text)
FROM generate_series(0, %(per_object)s - 1) AS versions(v), generate_series(1, %(objects)s) AS objects(o)
ORDER BY versions.v, objects.o
"""
_INDEXES = ("content_type_id", "object_pk", "object_id", "timestamp", "action", "cid", "actor_id")


def fill(rows: int) -> None:
    """Make the objects, and the other package's log of them; its last change of each was missed."""
    from django.contrib.contenttypes.models import ContentType
    from django.db import connection

    from .shop.models import Tag

    values = {
        "content_type": ContentType.objects.get_for_model(Tag).pk,
        "objects": rows // _PER_OBJECT,
        "per_object": _PER_OBJECT,
    }
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {Tag._meta.db_table} (id, name) SELECT o, 'tag' FROM generate_series(1, %s) o",
            [values["objects"]],
        )
        cursor.execute(_TABLE)
        cursor.execute(_FILL, values)
        for column in _INDEXES:
            cursor.execute(f"CREATE INDEX ON auditlog_logentry ({column})")


def measure(rows: int, step: int) -> None:
    """Import, and print a line of a table for so many rows each."""
    from django.core.management import call_command

    from django_signal_audit.importing.base import load_source
    from django_signal_audit.importing.importer import Importer, Options

    call_command("migrate", run_syncdb=True, verbosity=0)
    fill(rows)
    server = server_process()
    importer = Importer(load_source("auditlog")("default"), Options())
    read = 0

    def state() -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), cpu_of(server)

    before = state()

    def on_rows(count: int) -> None:
        nonlocal read, before
        read += count
        if read % step >= count:
            return
        now = state()
        clock, client, on_server = (end - begin for begin, end in zip(before, now, strict=True))
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        costs = f"{client / step * 1e6:.0f} µs | {on_server / step * 1e6:.0f} µs"
        print(f"| {read:,} | {step / clock:,.0f} | {costs} | {megabytes} MB | {os.getloadavg()[0]:.1f} |", flush=True)
        before = now

    importer.on_rows = on_rows
    print("| rows read | rows a second | CPU time of a row | of PostgreSQL | memory | load |\n" + "| --- " * 6 + "|")
    importer.run()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="of the other package (default 1,000,000)")
    parser.add_argument("--step", type=int, default=100_000, help="rows of a line (default 100,000)")
    arguments = parser.parse_args()
    with database("postgresql", 0) as entry:
        os.environ["BENCHMARK_DATABASE"] = json.dumps(entry)
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.evidence_settings"
        import django
        from django.db import connection

        django.setup()
        try:
            measure(arguments.rows, arguments.step)
        finally:
            connection.close()


if __name__ == "__main__":
    main()
