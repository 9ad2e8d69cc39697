"""The dashboard and ``audit_report`` with millions of events in their thirty days, on PostgreSQL.

Run as ``python -m benchmarks.dashboard``. The time of a view is that of a whole request with Django's test client.
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
from collections.abc import Callable
from typing import Any

from django.db.models.functions import Mod

from .databases import cpu_of, database, server_process
from .pages import _configure

PAGE = "/admin/django_signal_audit/auditevent/dashboard/"
DIMENSIONS = ("model", "event", "rule", "actor", "day", "hour", "field", "object")
# Events of thirty days: 20 models with 15,000 objects each, 100 actors of which some do much, 10 rules.
FILL = """
INSERT INTO django_signal_audit_auditevent (uid, recorded_at, event_type, source, level, rules, model, object_id,
    object_repr, actor_id, actor_repr, changes, data, context, correlation_id, signature)
SELECT gen_random_uuid(), now() - interval '30 days' + number * (interval '30 days' / {total}), kind, 'orm', 'info',
    to_jsonb(ARRAY['rule' || model % 10, 'all']), label, object::text, 'Thing number ' || object, actor::text,
    'user' || actor,
    CASE kind WHEN 'update' THEN jsonb_build_object('price', jsonb_build_array('1.00', '2.00')) ||
        CASE number % 3 WHEN 0 THEN jsonb_build_object('stock', jsonb_build_array(number % 100, 1))
            WHEN 1 THEN jsonb_build_object('name', jsonb_build_array('old', 'new ' || number)) ELSE '{{}}' END
    ELSE jsonb_build_object('name', jsonb_build_array(null, 'Thing ' || number),
        'price', jsonb_build_array(null, '1.00'), 'stock', jsonb_build_array(null, 1),
        'category', jsonb_build_array(null, number % 50),
        'is_active', jsonb_build_array(null, true), 'created', jsonb_build_array(null, now()::text)) END,
    '{{}}', jsonb_build_object('method', 'POST', 'path', '/shop/thing/' || object, 'ip', '10.0.0.' || actor),
    'request-' || number / 3, hashtextextended(label || kind, 0) & ((1::bigint << 53) - 1)
FROM (
    SELECT number, model,
        CASE model WHEN 0 THEN 'auth.user' WHEN 1 THEN 'auth.group' ELSE 'shop.model' || model END AS label,
        (random() * 15000)::int AS object, (100 * random() * random())::int + 1 AS actor,
        CASE WHEN chance < 0.8 THEN 'update' WHEN chance < 0.95 THEN 'create' ELSE 'delete' END AS kind
    FROM (SELECT number, (random() * 19)::int AS model, random() AS chance FROM generate_series(1, {total}) number) made
) shaped
"""


# The rows of the model that some see only in part.
USERS = """
INSERT INTO auth_user (id, username, password, first_name, last_name, email, is_staff, is_superuser, is_active,
    date_joined)
SELECT number, 'Thing number ' || number, '', '', '', '', false, false, true, now()
FROM generate_series(0, 15000) number
"""


def _timed(what: str, call: Callable[[], object]) -> None:
    server = server_process()
    begun, used, worked = time.perf_counter(), time.process_time(), cpu_of(server)
    call()
    wall, cpu, work = time.perf_counter() - begun, time.process_time() - used, cpu_of(server) - worked
    print(f"| {what} | {wall:,.2f} s | {cpu:,.2f} s | {work:,.2f} s |", flush=True)


def _show_half() -> None:
    """Have the admin show one viewer only half of the users."""
    from django.contrib import admin
    from django.contrib.auth.admin import UserAdmin
    from django.contrib.auth.models import User

    class HalfOfThem(UserAdmin):
        def get_queryset(self, request: Any) -> Any:
            rows = super().get_queryset(request)
            return rows.annotate(rest=Mod("id", 2)).filter(rest=0) if request.user.username == "half" else rows

    admin.site.unregister(User)
    admin.site.register(User, HalfOfThem)


def _measure(total: int) -> None:
    from django.contrib.auth.models import Permission, User
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client

    from django_signal_audit.reports.activity import activity
    from django_signal_audit.reports.arguments import EventFilter

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(FILL.format(total=total))
        cursor.execute("VACUUM ANALYZE django_signal_audit_auditevent")
        cursor.execute(USERS)
        cursor.execute("SELECT setval(pg_get_serial_sequence('auth_user', 'id'), 20000)")
    _show_half()
    viewer, half = (User.objects.create_user(name, is_staff=True) for name in ("viewer", "half"))
    for user in (viewer, half):
        user.user_permissions.set(
            Permission.objects.filter(codename__in=["view_auditevent", "view_user", "view_group"])
        )
    for user, views in (
        (User.objects.create_superuser("root"), ("first", "second", "third")),
        (viewer, ("first", "second")),
        (half, ("first", "second", "third")),
    ):
        client = Client()
        client.force_login(user)
        for view in views:
            _timed(f"dashboard, {view} view of {user.username}", lambda client=client: client.get(PAGE))
    since = dt.datetime.now(dt.UTC) - dt.timedelta(days=30)
    for name in DIMENSIONS:
        _timed(f"report by {name}", lambda name=name: activity(EventFilter(since=since).find("default"), [name]))
    _timed(
        "report by object, for people",
        lambda: activity(EventFilter(since=since).find("default"), ["object"], None, 1000),
    )
    _timed("report by object, top 100", lambda: activity(EventFilter(since=since).find("default"), ["object"], 100))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    arguments = parser.parse_args()
    print(f"| {arguments.events:,} events | time | CPU time of Python | of the server's process |")
    print("| --- | --- | --- | --- |")
    with database("postgresql", 0) as entry:
        _configure(entry)
        _measure(arguments.events)
        from django.db import connections

        connections.close_all()


if __name__ == "__main__":
    main()
