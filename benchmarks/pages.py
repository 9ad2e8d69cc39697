"""Pages of the log in the admin: at a thousand events, at a million, and django-auditlog's list beside them.

Run as ``python -m benchmarks.pages``; django-auditlog is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.urls import path

from .databases import TITLES, database

FIRST = 1_000
HAS_AUDITLOG = importlib.util.find_spec("auditlog") is not None
PAGES = {
    "newest": "",
    "last": "p=oldest",
    "a period": "since=2026-01-01&until=2026-01-01",
    "a model": "model=auth.group",
    "a type": "event_type=delete",
    "a rare rule": "rule=rare",
    "a rare level": "level=critical",
    "an actor": "actor=3",
    "search for an object": "q=quiet",
    "search for one with ever more events": "q=busy",
}
# Every eighth event is about each of them: more than a page of the log shows.
NAMED = {1: "quiet", 2: "busy"}
# What moves a row's time into the past, and gives it a key of its own.
SHIFT = {
    "sqlite": ("strftime('%Y-%m-%d %H:%M:%f', {time}, '-' || copy || ' hours')", "lower(hex(randomblob(16)))"),
    "postgresql": ("{time} - copy * interval '1 hour'", "gen_random_uuid()"),
}


def _urls() -> list[Any]:
    from django.contrib import admin

    return [path("admin/", admin.site.urls)]


def __getattr__(name: str) -> Any:
    if name == "urlpatterns":
        return _urls()
    raise AttributeError(name)


def _configure(entry: dict[str, Any]) -> None:
    import django

    contrib = [f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "sessions", "messages")]
    middleware = ["sessions.middleware.Session", "auth.middleware.Authentication", "messages.middleware.Message"]
    homes = ("django.template", "django.contrib.auth", "django.contrib.messages")
    names = ("request", "auth", "messages")
    template_options = {
        "context_processors": [f"{home}.context_processors.{name}" for home, name in zip(homes, names, strict=True)]
    }
    settings.configure(
        DATABASES={"default": entry},
        INSTALLED_APPS=["django_signal_audit", *contrib, *(["auditlog"] if HAS_AUDITLOG else [])],
        MIDDLEWARE=[f"django.contrib.{name}Middleware" for name in middleware],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": template_options,
            }
        ],
        SIGNAL_AUDIT={"RULES": [{"name": "all", "model": "auth.*"}, {"name": "rare", "model": "auth.Group"}]},
        ROOT_URLCONF="benchmarks.pages",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        SECRET_KEY="benchmark",
        STATIC_URL="static/",
        ALLOWED_HOSTS=["testserver"],
    )
    django.setup()


def _first_events() -> None:
    from django_signal_audit.models import AuditEvent

    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    models = ("auth.user", "auth.group")
    AuditEvent.objects.bulk_create(
        AuditEvent(
            event_type="update" if number % 5 else "delete", source="orm", model=models[number % 2],
            object_id=NAMED.get(number % 8, str(number)), object_repr=f"object {number}", actor_id=str(number % 7),
            actor_repr=f"user {number % 7}", rules=["all"], correlation_id=f"request {number}",
            changes={"first_name": ["one", "two"]}, recorded_at=start + dt.timedelta(seconds=number),
        )
        for number in range(FIRST - 10)
    )  # fmt: skip
    AuditEvent.objects.bulk_create(
        AuditEvent(event_type="create", source="orm", model="auth.group", rules=["all", "rare"], level="critical")
        for _ in range(10)
    )


def _first_entries() -> None:
    from auditlog.models import LogEntry
    from django.contrib.auth.models import User
    from django.contrib.contenttypes.models import ContentType

    content_type = ContentType.objects.get_for_model(User)
    LogEntry.objects.bulk_create(
        LogEntry(
            content_type=content_type, object_pk=str(number), object_id=number, object_repr=f"object {number}",
            action=number % 3, changes={"first_name": ["one", "two"]},
        )
        for number in range(FIRST)
    )  # fmt: skip


def _multiply(kind: str, table: str, moment: str, *, total: int, uid: str = "") -> None:
    """Copy the rows inside the database, each copy an hour older."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} LIMIT 1")
        columns = [column[0] for column in cursor.description if column[0] != "id"]
        time_sql, uid_sql = SHIFT[kind]
        shown = {moment: time_sql.format(time=moment), uid: uid_sql}
        copied = ", ".join(shown.get(column, f'"{column}"') for column in columns)
        names = ", ".join(f'"{column}"' for column in columns)
        rare = "WHERE level = 'info' AND object_id <> 'quiet'" if uid else ""
        cursor.execute(
            f"INSERT INTO {table} ({names}) WITH RECURSIVE copies(copy) AS"
            f" (SELECT 1 UNION ALL SELECT copy + 1 FROM copies WHERE copy < {total // FIRST})"
            f" SELECT {copied} FROM {table}, copies {rare}"
        )
        cursor.execute(f"ANALYZE {table}")


def _seconds(call: Callable[[], object], calls: int) -> float:
    taken = []
    call()
    for _ in range(calls):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _measure(kind: str, total: int, calls: int) -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    client = Client()
    client.force_login(User.objects.create_superuser("root"))

    def page(address: str) -> float:
        def get() -> None:
            assert client.get(address).status_code == 200, address

        return _seconds(get, calls)

    ours, theirs = "/admin/django_signal_audit/auditevent/?", "/admin/auditlog/logentry/"
    _first_events()
    small = {name: page(ours + query) for name, query in PAGES.items()}
    if HAS_AUDITLOG:
        _first_entries()
        small["django-auditlog's list"] = page(theirs)
        _multiply(kind, "auditlog_logentry", "timestamp", total=total)
    _multiply(kind, "django_signal_audit_auditevent", "recorded_at", total=total, uid="uid")
    large = {name: page(ours + query) for name, query in PAGES.items()}
    if HAS_AUDITLOG:
        large["django-auditlog's list"] = page(theirs)
    for name, before in small.items():
        after = large[name]
        print(
            f"| {TITLES[kind]} | {name} | {before * 1e3:,.0f} ms | {after * 1e3:,.0f} ms | {after / before:.2f} |",
            flush=True,
        )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--database", choices=TITLES, default="sqlite")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=7)
    arguments = parser.parse_args()
    print(f"| database | page | {FIRST:,} events | {arguments.events:,} events | ratio |")
    print("| --- | --- | --- | --- | --- |")
    with database(arguments.database, 0) as entry:
        _configure(entry)
        _measure(arguments.database, arguments.events, arguments.calls)
        from django.db import connections

        connections.close_all()


if __name__ == "__main__":
    main()
