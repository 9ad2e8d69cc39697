"""Decimals are recorded and compared exactly, whatever the digits and the traps of the caller's context."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, Inexact, Rounded, localcontext
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import F

from django_signal_audit.reports.display import show_percent
from django_signal_audit.rules.conditions import fell_by_percent, rose_by, rose_by_percent

from .columns.models import Precise
from .conftest import Audit, events

pytestmark = pytest.mark.django_db

LONG = Decimal("12345678901234567890.5")
RULES = [{"name": "all", "model": "columns.precise"}]


@pytest.fixture(params=["few digits", "what is rounded raises"])
def context(request: Any) -> Iterator[None]:
    """Give the test a decimal context that a project may have."""
    with localcontext() as own:
        if request.param == "few digits":
            own.prec = 5
        else:
            own.traps[Inexact] = own.traps[Rounded] = True
        yield


def amounts() -> list[tuple[str, Any, Any]]:
    return [
        (event.event_type, change.old, change.new)
        for event in events(model="columns.precise")
        if (change := event.field_changes.get("amount"))
    ]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite keeps decimals as floats of 15 digits")
def test_a_column_of_more_digits_than_the_context_has(audit: Audit) -> None:
    audit(*RULES)
    row = Precise.objects.create(amount=LONG)
    row.amount = LONG + 1
    row.save()
    Precise.objects.bulk_create([Precise(amount=-LONG)])
    Precise.objects.filter(pk=row.pk).update(amount=F("amount") + 1)
    with localcontext(prec=60):
        assert amounts() == [
            ("create", None, LONG),
            ("update", LONG, LONG + 1),
            ("create", None, -LONG),
            ("update", LONG + 1, LONG + 2),
        ]
    call_command("audit_replay", "--check", verbosity=0)


@pytest.mark.usefixtures("context")
def test_every_write_in_a_context_of_the_projects(audit: Audit) -> None:
    audit(*RULES)
    row = Precise.objects.create(ratio=Decimal("1234567.5"))
    row.ratio = Decimal("7654321.25")
    row.save()
    Precise.objects.bulk_create([Precise(ratio=Decimal("1234567.5"))])
    Precise.objects.bulk_update([Precise(pk=row.pk, ratio=Decimal("1234567.75"))], ["ratio"])
    Precise.objects.all().delete()
    changes = [event.field_changes["ratio"] for event in events(model="columns.precise")]
    first, second, third = Decimal("1234567.5"), Decimal("7654321.25"), Decimal("1234567.75")
    assert [(change.old, change.new) for change in changes[:4]] == [
        (None, first),
        (first, second),
        (None, first),
        (second, third),
    ]
    assert {change.old for change in changes[4:]} == {first, third}


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize(
    ("operator", "operand", "is_notified"),
    [
        ("increased_by", Decimal("0.0001"), True),
        ("increased_by", Decimal("0.0002"), False),
        ("decreased_by", Decimal("0.0001"), False),
        ("increased_by_percent", Decimal("0.000000001"), True),
        ("increased_by_percent", Decimal("1"), False),
    ],
)
def test_conditions_of_a_rule(audit: Audit, operator: str, operand: Decimal, is_notified: bool) -> None:
    when = {"ratio": {operator: operand}}
    audit({"name": "risen", "model": "columns.precise", "when": when})
    row = Precise.objects.create(ratio=Decimal("1234567.0000"))
    row.ratio = Decimal("1234567.0001")
    row.save()
    assert [event.event_type for event in events(model="columns.precise")] == ["update"] * is_notified


@pytest.mark.usefixtures("context")
def test_conditions_of_long_numbers() -> None:
    by = Decimal("0.0000000000000000001")
    above = Decimal("12345678901234567890.5000000000000000001")
    assert rose_by(LONG, above, by)
    assert not rose_by(LONG, LONG, by)
    assert not rose_by_percent(LONG, above, Decimal(1))
    assert not fell_by_percent(above, LONG, Decimal(1))


@pytest.mark.usefixtures("context")
def test_percents_that_pages_show() -> None:
    assert show_percent(Decimal("300000"), Decimal("300001")) == ""
    assert show_percent(Decimal("3"), Decimal("4")) == "+33.3 %"
    assert show_percent(Decimal("9"), Decimal("1")) == "−88.9 %", "rounded, not cut off"  # noqa: RUF001  # a minus
    assert show_percent(16, 1) == "−93.8 %"  # noqa: RUF001  # a minus
    assert show_percent(2000, 2001) == "+0.1 %"
    assert show_percent(1000, 1000.4) == ""


@pytest.mark.parametrize("stored", ["1E+9999999", "1E-9999999"])
def test_numbers_that_only_sql_can_have_written_have_no_percents(stored: str) -> None:
    with pytest.raises(ArithmeticError):
        Decimal("1E+9999999") - 1
    assert show_percent(Decimal(1), Decimal(stored)) in ("", "−100.0 %")  # noqa: RUF001  # a minus
    assert show_percent(Decimal(stored), Decimal(1)) in ("", "−100.0 %")  # noqa: RUF001  # a minus
