"""What must hold for every package that records values: the same writes, recorded by it, and imported."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from django_signal_audit.models import AuditEvent

from .shop.models import model
from .writes import differences, imported, of, run_import, write

pytestmark = pytest.mark.django_db
RULES = {"RULES": [{"name": "shop", "model": "shop.*"}]}
SOURCES = {
    "auditlog": "Logged",
    "easyaudit": "EasyAudited",
    "field_audit": "FieldAudited",
    "reversion": "Versioned",
    "simple_history": "HistoryKept",
    **({"pghistory": "Triggered"} if settings.HAS_TRIGGERS else {}),
}


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def recorded(source: str) -> Any:
    return model(SOURCES[source])


def test_the_imported_history_replays_to_the_table(source: str, recorded: Any, settings: Any) -> None:
    write(recorded)
    settings.SIGNAL_AUDIT = RULES
    run_import(source)
    assert differences(recorded._meta.label_lower) == []
    assert all(event.id < 0 for event in AuditEvent.objects.filter(model=recorded._meta.label_lower))


def test_a_second_run_writes_nothing(source: str, recorded: Any, settings: Any) -> None:
    write(recorded)
    settings.SIGNAL_AUDIT = RULES
    run_import(source)
    before = list(AuditEvent.objects.order_by("id").values())
    assert "0 events written" in run_import(source)
    assert list(AuditEvent.objects.order_by("id").values()) == before


def test_while_both_record(source: str, recorded: Any, settings: Any) -> None:
    settings.SIGNAL_AUDIT = {"RULES": []}
    before = write(recorded)
    settings.SIGNAL_AUDIT = RULES
    own = AuditEvent.objects.filter(model=recorded._meta.label_lower, id__gt=0)
    write(recorded)
    full = before["full"]
    full.refresh_from_db()
    full.qty = 77
    full.save()
    count = own.count()
    run_import(source)
    assert differences(recorded._meta.label_lower) == []
    assert own.count() == count
    changes = [changes["qty"] for _, changes in of(full) if "qty" in changes]
    assert [new for _, new in changes].count(77) == 1
    assert all(before[1] == after[0] for before, after in pairwise(changes))
    assert "0 events written" in run_import(source)


def test_no_secret_is_kept(source: str, recorded: Any, settings: Any) -> None:
    write(recorded)
    settings.SIGNAL_AUDIT = RULES
    run_import(source)
    found = str(list(AuditEvent.objects.values_list("changes", "data", "object_repr", "context")))
    assert "hunter" not in found
    assert "$masked" in found


def test_values_are_typed(source: str, recorded: Any, settings: Any) -> None:
    written = write(recorded)
    settings.SIGNAL_AUDIT = RULES
    run_import(source)
    first = imported(recorded._meta.label_lower, object_id=str(written["full"].pk))[0]
    assert first.event_type in ("create", "baseline")
    new = first.new
    assert (new["qty"], new["active"], new["weight"]) == (12, True, 0.1)
    assert str(new["price"]) == "1234.5000"
    assert first.changes["meta"] == [None, {"a": [1, "b"], "c": None}]
    assert first.changes["category"] == [None, written["full"].category_id - 1]
    assert first.changes["span"] == [None, "P1DT00H00M02S"]


def test_baseline_and_repair_find_nothing_to_do_in_what_was_imported(source: str, recorded: Any, settings: Any) -> None:
    write(recorded)
    settings.SIGNAL_AUDIT = RULES
    run_import(source)
    count = AuditEvent.objects.count()
    call_command("audit_baseline", recorded._meta.label, "--repair", verbosity=0)
    assert AuditEvent.objects.count() == count
