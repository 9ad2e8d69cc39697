"""Events whose columns hold what no driver can read, or what Python has no value for: SQL writes it, nothing stops."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_signal_audit.evidence import standalone
from django_signal_audit.evidence.proofs import bundle_of
from django_signal_audit.evidence.sealing import seal, unsealed
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.models import AuditEvent, AuditLeaf

from .app.models import Tag
from .conftest import Audit, last

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = AuditEvent._meta.db_table
TEXTS = ["event_type", "source", "level", "model", "object_id", "object_repr", "actor_id", "actor_repr",
         "correlation_id", "tenant"]  # fmt: skip
DOCUMENTS = ["rules", "changes", "data", "context"]
# Texts, documents and moments as SQL, by database.
ODD: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {
    "sqlite": (
        {
            "no UTF-8": "CAST(x'61ff' AS TEXT)",
            "half of a pair": "CAST(x'eda080' AS TEXT)",
            "a text that is cut": "CAST(x'61c3' AS TEXT)",
            "NUL": "CAST(x'610062' AS TEXT)",
            "bytes": "x'ff00'",
            "bytes of a text": "x'6162'",
            "a number": "99999999999999999999999999",
            "infinity": "9e999",
        },
        {
            "no UTF-8": "CAST(x'7b2261223a22ff227d' AS TEXT)",
            "bytes": "x'ff'",
            "bytes of JSON": "CAST('{\"a\": 1}' AS BLOB)",
            "no number": "'{\"a\": [NaN, -Infinity]}'",
            "a long number": f"'{{\"a\": [{'9' * 5000}, 1e999]}}'",
            "half of a pair": "'{\"name\": [null, \"\\ud800\"]}'",
            "NUL": "'{\"name\": [\"\\u0000\", \"b\"]}'",
            "a number": "1.5",
            "no JSON": "'abc'",
        },
        {
            "no UTF-8": "CAST(x'ff' AS TEXT)",
            "a word": "'abc'",
            "bytes": "x'ff'",
            "a number": "5",
            "a day in Julian days": "2460000.5",
            "the year 0": "'0000-01-01 00:00:00'",
            "the year 20000": "'20000-01-01 00:00:00'",
            "no such day": "'2026-02-31 00:00:00'",
        },
    ),
    "postgresql": (
        {"control": "chr(1)", "no character": "chr(65535)", "another direction": "chr(8238)"},
        {
            "a long number": f"'{{\"a\": [{'9' * 5000}, 1e999]}}'",
            "an exponent": "'{\"a\": [1e100000, 2]}'",
            "control": "'\"\\u0001\"'",
        },
        {"infinity": "'infinity'", "before all": "'-infinity'", "before Christ": "'0044-03-15 BC'",
         "the year 20000": "'20000-01-01'"},
    ),
    "mysql": (
        {"NUL": "x'610062'", "control": "char(1)", "a blank": "'a '"},
        {
            "a long number": f"'{{\"a\": [{'9' * 5000}, 1e999]}}'",
            "NUL": "'{\"name\": [\"\\\\u0000\", \"b\"]}'",
            "a key twice": "'{\"a\": 1, \"a\": 2}'",
        },
        {"nothing": "'0000-00-00 00:00:00'", "the first year": "'0001-01-01'"},
    ),
}  # fmt: skip
CASES = [
    pytest.param(columns, value, id=f"{columns[0]}: {name}")
    for columns, values in zip((TEXTS, DOCUMENTS, ["recorded_at"]), ODD[connection.vendor], strict=True)
    for name, value in values.items()
]


@pytest.fixture
def relaxed() -> Iterator[None]:
    """Have SQLite take what is no JSON, as whoever has the file can."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA ignore_check_constraints = ON")
    yield
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA ignore_check_constraints = OFF")


def overwrite(columns: list[str], value: str) -> list[AuditEvent]:
    """Have SQL write a value into each of the columns, of an event of its own; return those events."""
    written = []
    for column in columns:
        tag = Tag.objects.create(name=f"before {column}")
        tag.name = "after"
        tag.save()
        event = last()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"UPDATE {TABLE} SET {column} = {value} WHERE id = {event.pk}")
        except DatabaseError:
            continue
        written.append(event)
    if not written:
        pytest.skip("the database refuses it")
    Tag.objects.create(name="another")
    return written


def run(*arguments: str) -> str:
    out = io.StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=out)
    except (CommandError, SystemExit) as error:
        out.write(str(error))
    return out.getvalue()


@pytest.mark.parametrize(("columns", "value"), CASES)
def test_they_are_sealed_as_they_are_proved_and_their_edit_is_named(
    audit: Audit, relaxed: None, columns: list[str], value: str
) -> None:
    audit({"name": "tags", "model": "app.Tag", "personal": ["name"]})
    events = overwrite(columns, value)
    seal("default")
    assert AuditLeaf.objects.count() == AuditEvent.objects.count()
    differing = {(item.kind, item.event) for item in Verifier("default").findings()}
    # The number by which the log finds events is of what they said before.
    signed = {str(event.uid) for event, column in zip(events, columns, strict=False) if column in SIGNED}
    assert {uid for kind, uid in differing if kind == "edited"} <= signed
    assert {kind for kind, _uid in differing} <= {"edited", "backdated", "postdated"}
    for event in events:
        assert standalone.verify_event(bundle_of(event, "default"))["v"] in (1, 2)
    with connection.cursor() as cursor:
        for event in events:
            cursor.execute(f"UPDATE {TABLE} SET object_id = 'x', correlation_id = 'y' WHERE id = {event.pk}")
    edited = {item.event for item in Verifier("default").findings() if "what was sealed" in item.detail}
    assert edited == {str(event.uid) for event in events}


SIGNED = {"event_type", "level", "model", "rules"}


@pytest.mark.parametrize(("columns", "value"), CASES)
def test_every_page_and_command_has_them(
    audit: Audit, admin_client: Client, relaxed: None, columns: list[str], value: str
) -> None:
    audit({"name": "tags", "model": "app.Tag", "personal": ["name"]})
    events = overwrite(columns, value)
    seal("default")
    log = reverse("admin:django_signal_audit_auditevent_changelist")
    pages = [log, f"{log}?q=after", f"{log}?level=info", f"{log}?model=app.tag", f"{log}dashboard/?days=90",
             f"{log}export/?format=csv", f"{log}export/?format=jsonl", f"{log}export/?format=xlsx", f"{log}prune/",
             "/inbox/api/events/", "/admin/"]  # fmt: skip
    for tag in Tag.objects.order_by("pk")[:3]:
        history = f"{log}history/app.tag/{tag.pk}/"
        pages += [history, f"{history}?at=2100-01-01", f"{history}restore/", f"{history}erase/"]
    for event in events:
        pages += [f"{log}{event.pk}/change/", f"{log}{event.pk}/revert/", f"/inbox/api/events/{event.uid}/"]
    for page in pages:
        response = admin_client.get(page)
        assert response.status_code < 500, page
        assert b"".join(response) if response.streaming else response.content is not None
    key = str(Tag.objects.order_by("pk")[0].pk)
    for arguments in (
        ["audit_history", "app.Tag", key],
        *(["audit_export", "--format", name] for name in ("jsonl", "csv", "ocsf", "cloudevents", "ecs", "cef")),
        *(["audit_report", "--by", name] for name in ("model", "actor", "object", "field", "event", "day")),
        ["audit_report", "--subject", "app.Tag", key],
        ["audit_replay"],
        ["audit_erase", "--subject", "app.Tag", key],
    ):
        run(*arguments)
    assert "before" not in run("audit_history", "app.Tag", key) or columns[0] == "event_type"


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the column holds a UUID")
@pytest.mark.parametrize("value", ["x'6162'", "CAST(x'ff' AS TEXT)"])
def test_an_event_that_no_leaf_can_name_is_left_out_and_said(
    audit: Audit, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    [event] = overwrite(["uid"], value)
    for _ in range(2):
        seal("default")
        assert list(unsealed("default").values_list("id", flat=True)) == [event.pk]
    assert f"Event {event.pk} is not sealed: SQL wrote" in caplog.text
    verifier = Verifier("default")
    assert list(verifier.findings()) == []
    assert verifier.verdict.unsealed == 1


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the columns hold what they are for")
@pytest.mark.parametrize("value", ["'abc'", "x'ff'", "5", "CAST(x'ff' AS TEXT)", "''"])
@pytest.mark.parametrize("column", ["hash", "event", "commitments"])
def test_a_leaf_that_sql_overwrote_is_named(audit: Audit, relaxed: None, column: str, value: str) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    Tag.objects.create(name="a")
    event = last()
    Tag.objects.create(name="b")
    seal("default")
    with connection.cursor() as cursor:
        cursor.execute(f'UPDATE {AuditLeaf._meta.db_table} SET {column} = {value} WHERE "index" = 0')
    findings = list(Verifier("default").findings())
    assert {item.index for item in findings if item.kind in ("edited", "deleted")} == {0}
    assert run("audit_verify").startswith(("edited 0", "deleted 0"))
    assert "isn't" in run("audit_prove", str(event.uid)) or "not sealed" in run("audit_prove", str(event.uid))


@pytest.mark.parametrize("value", [b"", b"x", b"y" * 64])
def test_pages_and_proofs_say_that_a_checkpoint_was_changed(audit: Audit, admin_client: Client, value: bytes) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    for number in range(9):
        Tag.objects.create(name=f"{number}")
        seal("default")
    event = AuditEvent.objects.order_by("id")[1]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_signal_audit_auditcheckpoint SET stack = %s WHERE size > 2", [value])
    page = admin_client.get(reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,)))
    assert page.status_code == 200
    for arguments in ([str(event.uid)], ["--since", "3"]):
        assert "a checkpoint was changed" in run("audit_prove", *arguments)
    assert "checkpoint 9" in run("audit_verify")


def test_a_moment_is_read_as_it_is_where_it_is_one(audit: Audit) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    Tag.objects.create(name="a")
    event = last()
    assert abs((timezone.now() - event.recorded_at).total_seconds()) < 600
    newest = AuditEvent.objects.values_list("recorded_at", flat=True).distinct().order_by("recorded_at")
    assert list(newest) == [event.recorded_at]
