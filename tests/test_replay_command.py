"""What ``audit_replay`` prints: what differs row by row, and rows without a baseline in a line for each model."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command
from django.db import connection

from django_signal_audit.models import AuditEvent

from .app.models import Country, Product, Tag
from .conftest import Audit

pytestmark = pytest.mark.django_db

RULES = {"name": "some", "model": ["app.Tag", "app.Country"]}


def replay(*arguments: str, code: int = 0) -> str:
    out = io.StringIO()
    if code:
        with pytest.raises(SystemExit) as end:
            call_command("audit_replay", *arguments, stdout=out)
        assert end.value.code == code
    else:
        call_command("audit_replay", *arguments, stdout=out)
    return out.getvalue()


def test_before_a_baseline_there_is_a_line_for_each_model(audit: Audit) -> None:
    Tag.objects.bulk_create(Tag(name=str(number)) for number in range(1200))
    Country.objects.bulk_create(Country(code=code, name=code) for code in ("at", "de"))
    audit(RULES)
    lines = replay("--check", code=1).splitlines()
    first, second, third = Tag.objects.order_by("pk").values_list("pk", flat=True)[:3]
    [tags] = [line.split("  ") for line in lines if line.startswith("app.tag")]
    assert [cell.strip() for cell in tags if cell.strip()] == [
        "app.tag", "1,200", f"{first}, {second}, {third}, …", "no recorded history; run audit_baseline",
    ]  # fmt: skip
    assert next(line for line in lines if line.startswith("app.country")).split()[1:4] == ["2", "at,", "de"]
    assert lines[-1] == "1202 rows compared with their recorded history, 1202 differences."
    assert len(lines) < 12


def test_rows_of_which_only_changes_are_recorded_have_a_line_of_their_own(audit: Audit) -> None:
    tags = [Tag.objects.create(name=str(number)) for number in range(5)]
    audit(RULES)
    for tag in tags[:2]:
        tag.name = f"new {tag.name}"
        tag.save()
    lines = [line for line in replay().splitlines() if line.startswith("app.tag")]
    assert len(lines) == 2
    assert {line.split()[1] for line in lines} == {"2", "3"}


def test_what_differs_beside_them_is_named_row_by_row(audit: Audit) -> None:
    Tag.objects.create(name="old")
    audit(RULES)
    tags = [Tag.objects.create(name=str(number)) for number in range(2)]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM app_tag WHERE name IN ('0', '1')")
    assert len(tags) == 2
    printed = replay("--check", code=1)
    assert printed.count("the row is gone, but no deletion is recorded") == 2
    assert printed.count("run audit_baseline") == 1


def test_the_json_names_every_row(audit: Audit) -> None:
    Tag.objects.bulk_create(Tag(name=str(number)) for number in range(20))
    audit(RULES)
    found = json.loads(replay("--format", "json"))["differences"]
    assert len(found) == 20
    assert {item["kind"] for item in found} == {"unrecorded"}


def test_after_the_baseline_nothing_is_left(audit: Audit) -> None:
    Tag.objects.create(name="old")
    Product.objects.create(name="not audited")
    audit(RULES)
    call_command("audit_baseline", stdout=io.StringIO())
    assert replay("--check").endswith("1 row compared with its recorded history, 0 differences.\n")
    assert AuditEvent.objects.filter(source="baseline").count() == 1
