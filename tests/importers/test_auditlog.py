from __future__ import annotations

import gzip
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from auditlog.context import set_actor
from auditlog.models import LogEntry
from django.core.management import call_command
from django.db import connection

from django_signal_audit.models import AuditEvent
from tests.docs_blocks import ROOT, read_blocks

from .shop.models import Logged
from .writes import differences, imported, run_import, write

GUIDE = ROOT / "docs" / "how-to" / "leave-this-package.md"
pytestmark = pytest.mark.django_db
RULES = {"RULES": [{"name": "shop", "model": "shop.*"}]}


def test_typed_changes(settings: Any) -> None:
    settings.AUDITLOG_STORE_JSON_CHANGES = True
    write(Logged)
    settings.SIGNAL_AUDIT = RULES
    run_import("auditlog")
    assert differences("shop.logged") == []


def test_the_actor_and_the_address(settings: Any, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("ada")
    with set_actor(user, remote_addr="10.0.0.1"):
        Logged.objects.create(name="a")
    settings.SIGNAL_AUDIT = RULES
    run_import("django-auditlog")
    (event,) = imported("shop.logged")
    assert (event.actor_repr, event.context["request"]) == ("ada", {"ip": "10.0.0.1"})


def test_expressions_are_unclear_and_closed(settings: Any) -> None:
    written = write(Logged)
    settings.SIGNAL_AUDIT = RULES
    run_import("auditlog")
    events = AuditEvent.objects.for_object(written["full"]).order_by("id")
    (unclear,) = [event.data["unclear"] for event in events if "qty" in event.data.get("unclear", {})]
    assert unclear["qty"] == ["5", "F(qty) + Value(1)"]
    assert events.last().changes["qty"] == [5, 6]  # type: ignore[union-attr]


def state(row: Any) -> dict[str, Any]:
    """Return the recorded state of a row without what auditlog doesn't keep: bytes and secrets, and keys of tags."""
    found = AuditEvent.objects.state_of(Logged, row.pk) or {}
    return {name: value for name, value in found.items() if name not in ("blob", "password", "tags")}


def test_what_leaves_is_shown_by_auditlog_and_comes_back(settings: Any, tmp_path: Path) -> None:
    settings.SIGNAL_AUDIT = RULES
    rows = [row for row in write(Logged).values() if Logged.objects.filter(pk=row.pk).exists()]
    LogEntry.objects.all().delete()
    file = tmp_path / "audit.jsonl.gz"
    call_command("audit_export", "--model", "shop.logged", "--output", str(file), stdout=io.StringIO())
    guide = ModuleType("to_auditlog")
    (block,) = [block for block in read_blocks(GUIDE) if block.argument == "to_auditlog"]
    exec(block.compiled(), guide.__dict__)
    guide.load(file)
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        assert LogEntry.objects.count() >= sum(1 for _ in lines)
    entries = list(LogEntry.objects.all())
    for entry in entries:
        assert entry.changes_display_dict
    assert "hmac" not in "".join(str(entry.changes) for entry in entries)
    before = [state(row) for row in rows]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_signal_audit_auditevent")
    run_import("auditlog", "--no-close")
    assert [state(row) for row in rows] == before
    run_import("auditlog")
    assert differences("shop.logged") == []
