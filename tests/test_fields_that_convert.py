"""Fields that make something else of their columns' values: the audit log has what the column holds."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import translation

from django_signal_audit.checks import check_rules
from django_signal_audit.models import AuditEvent

from .columns import models as columns
from .columns.models import Color, Documented, Money, Painted
from .conftest import Audit, events, last
from .revert_pages import address

pytestmark = pytest.mark.django_db

RULES = [{"name": "all", "model": "columns.*"}]
HELD = {"color": 1, "by_name": "RED", "price": 250, "label": "d", "choice": "d"}


def painted(**values):
    held = {"color": Color.RED, "by_name": Color.RED, "price": Decimal("2.50"), "label": "Yes"}
    return Painted(**{"name": "a", **held, **values})


def recorded() -> dict:
    return {name: change[1] for name, change in last().changes.items() if name != "name"}


def save(row):
    row.save()


def bulk_create(row):
    Painted.objects.bulk_create([row])


class TestWhatIsRecorded:
    @pytest.mark.parametrize("write", [save, bulk_create])
    def test_of_a_new_row(self, audit: Audit, write) -> None:
        audit(*RULES)
        write(painted())
        assert recorded() == HELD
        call_command("audit_replay", "--check", verbosity=0)

    def test_of_a_save(self, audit: Audit) -> None:
        audit(*RULES)
        row = painted()
        row.save()
        row.color, row.by_name, row.price, row.label = Color.GREEN, Color.GREEN, Decimal("9.99"), "No"
        row.save()
        assert last().changes == {
            "color": [1, 2],
            "by_name": ["RED", "GREEN"],
            "price": [250, 999],
            "label": ["d", "f"],
        }

    def test_of_update_and_bulk_update(self, audit: Audit) -> None:
        audit(*RULES)
        row = painted()
        row.save()
        Painted.objects.update(color=Color.GREEN, price=Decimal("3.00"))
        assert last().changes == {"color": [1, 2], "price": [250, 300]}
        assert last().object_repr == "a for 3"
        row.color, row.label = Color.RED, "No"
        Painted.objects.bulk_update([row], ["color", "label"])
        assert last().changes == {"color": [2, 1], "label": ["d", "f"]}
        call_command("audit_replay", "--check", verbosity=0)

    def test_deletions_record_what_the_column_held(self, audit: Audit) -> None:
        audit(*RULES)
        for delete in (lambda row: row.delete(), lambda row: Painted.objects.filter(pk=row.pk).delete()):
            row = painted()
            row.save()
            delete(row)
            assert {name: change[0] for name, change in last().changes.items()} == {"name": "a", **HELD}
            assert list(last().changes) == ["name", *HELD] or connection.vendor == "postgresql"
            assert last().object_repr in ("a for 2.50", "a for 2.5")

    def test_of_a_key_that_moves(self, audit: Audit) -> None:
        audit(*RULES)
        row = painted()
        row.save()
        Painted.objects.filter(pk=row.pk).update(id=row.pk + 1)
        assert recorded() == HELD

    def test_of_a_baseline(self, audit: Audit) -> None:
        audit({"name": "none", "events": ["login"]})
        painted().save()
        audit(*RULES)
        call_command("audit_baseline", verbosity=0)
        assert recorded() == HELD

    def test_state_of_has_what_the_column_holds(self, audit: Audit) -> None:
        audit(*RULES)
        row = painted()
        row.save()
        assert AuditEvent.objects.state_of(Painted, row.pk) == {"name": "a", **HELD}

    def test_whatever_the_language(self, audit: Audit) -> None:
        audit(*RULES)
        row = painted()
        row.save()
        with translation.override("de"):
            row = Painted.objects.get()
            assert row.label == "Ja"
            row.name = "b"
            row.save()
            assert last().changes == {"name": ["a", "b"]}
            row.color, row.label = Color.GREEN, "Nein"
            row.save()
        assert last().changes == {"color": [1, 2], "label": ["d", "f"]}
        call_command("audit_replay", "--check", verbosity=0)

    def test_a_value_that_the_field_cannot_read(self, audit: Audit) -> None:
        audit(*RULES)
        row = painted()
        row.save()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE columns_painted SET color = 77")
        Painted.objects.update(color=Color.GREEN)
        assert last().changes == {"color": [77, 2]}
        with connection.cursor() as cursor:
            cursor.execute("UPDATE columns_painted SET color = 77")
        Painted.objects.filter(pk=row.pk).only("id").delete()
        assert last().changes["color"] == [77, None]

    def test_objects_get_what_their_fields_make_of_it(self, audit: Audit, monkeypatch) -> None:
        seen = []
        see = lambda change: seen.append(change.instance) or True  # noqa: E731
        monkeypatch.setattr(columns, "seen_by_condition", see, raising=False)
        audit({"name": "all", "model": "columns.*", "when": "tests.columns.models.seen_by_condition"})
        rows = Painted.objects.bulk_create([painted()])
        Painted.objects.update(name="b")
        Painted.objects.all().delete()
        assert [one.color for one in seen] == [Color.RED] * 3
        assert rows[0].color is Color.RED


@pytest.mark.parametrize(
    ("name", "operand"),
    [
        ("color", 2),
        ("color", Color.GREEN),
        ("by_name", "GREEN"),
        ("by_name", Color.GREEN),
        ("label", "f"),
        ("label", "No"),
        ("price", Decimal("9.99")),
        ("choice", columns.Text.DONE),
        ("choice", "f"),
    ],
)
def test_a_condition_takes_the_columns_value_and_the_fields(audit: Audit, name: str, operand: object) -> None:
    audit({"name": "to", "model": "columns.Painted", "events": ["update"], "when": {name: {"to": operand}}})
    assert [str(problem) for problem in check_rules()] == []
    row = painted()
    row.save()
    row.color, row.by_name, row.price, row.label = Color.GREEN, Color.GREEN, Decimal("9.99"), "No"
    row.choice = columns.Text.DONE
    row.save()
    assert last().rules == ["to"]
    Painted.objects.update(name="c")
    assert len(events()) == 1


@pytest.mark.parametrize("name", ["color", "by_name", "price", "label"])
def test_an_update_is_reverted(audit: Audit, admin_client, name: str) -> None:
    audit(*RULES)
    row = painted()
    row.save()
    before = getattr(row, name)
    setattr(row, name, {"price": Decimal("9.99"), "label": "No"}.get(name, Color.GREEN))
    row.save()
    assert admin_client.post(address(last())).status_code == 302
    assert getattr(Painted.objects.get(), name) == before
    call_command("audit_replay", "--check", verbosity=0)


def test_a_deletion_is_reverted(audit: Audit, admin_client) -> None:
    audit(*RULES)
    painted().save()
    Painted.objects.get().delete()
    assert admin_client.post(address(last())).status_code == 302
    row = Painted.objects.get()
    assert (row.color, row.by_name, row.price, row.label) == (Color.RED, Color.RED, Decimal("2.5"), "Yes")
    call_command("audit_replay", "--check", verbosity=0)


def documented(amount: str = "1.50") -> Documented:
    return Documented(decoded={"money": amount, "at": 1.5}, encoded={"of": Money(amount)}, both={"of": Money(amount)})


def stored_document(amount: str = "1.50") -> dict:
    return {
        "decoded": {"money": amount, "at": 1.5},
        "encoded": {"of": {"money": amount}},
        "both": {"of": {"money": amount}},
    }


class TestDocumentsWithDecodersAndEncoders:
    def test_every_way_of_writing(self, audit: Audit) -> None:
        audit(*RULES)
        row = documented()
        row.save()
        assert recorded() == stored_document()
        Documented.objects.bulk_create([documented("2.50")])
        assert recorded() == stored_document("2.50")
        Documented.objects.filter(pk=row.pk).update(decoded={"money": "3"}, both={"of": Money("3")})
        assert last().changes == {
            "decoded": [stored_document()["decoded"], {"money": "3"}],
            "both": [stored_document()["both"], {"of": {"money": "3"}}],
        }
        row.encoded = {"of": Money("4")}
        row.save(update_fields=["encoded"])
        Documented.objects.bulk_update([row], ["encoded"])
        call_command("audit_replay", "--check", verbosity=0)
        Documented.objects.filter(pk=row.pk).delete()
        assert last().changes["decoded"] == [{"money": "3"}, None]

    def test_documents_that_are_no_mappings(self, audit: Audit) -> None:
        audit(*RULES)
        for document in ([1.5, {"money": "1"}], "text", 1.5, True, '{"a": 1}'):
            Documented.objects.create(decoded=document)
            assert last().changes["decoded"] == [None, document]
        call_command("audit_replay", "--check", verbosity=0)

    def test_an_update_is_reverted(self, audit: Audit, admin_client) -> None:
        audit(*RULES)
        row = documented()
        row.save()
        Documented.objects.update(decoded={"money": "3"}, both={"of": Money("3")})
        assert admin_client.post(address(last())).status_code == 302
        assert last().changes["decoded"] == [{"money": "3"}, stored_document()["decoded"]]
        assert Documented.objects.get().decoded.amount == "1.50"


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has arrays")
class TestArrays:
    def test_every_way_of_writing(self, audit: Audit) -> None:
        audit(*RULES)
        values = {
            "colors": [Color.RED, None, Color.GREEN],
            "nested": [[Color.RED], [Color.GREEN]],
            "documents": [{"money": "1", "at": 1.5}],
        }
        held = {"colors": [1, None, 2], "nested": [[1], [2]], "documents": [{"money": "1", "at": 1.5}]}
        row = columns.Listed.objects.create(**values)
        assert recorded() == held
        columns.Listed.objects.bulk_create([columns.Listed(**values)])
        assert recorded() == held
        columns.Listed.objects.update(colors=[Color.GREEN])
        assert last().changes == {"colors": [[1, None, 2], [2]]}
        row.delete()
        call_command("audit_replay", "--check", verbosity=0)

    def test_an_update_is_reverted(self, audit: Audit, admin_client) -> None:
        audit(*RULES)
        columns.Listed.objects.create(colors=[Color.RED], documents=[{"money": "1"}])
        columns.Listed.objects.update(colors=[Color.GREEN])
        assert admin_client.post(address(last())).status_code == 302
        assert columns.Listed.objects.get().colors == [Color.RED]


def test_members_of_enums_in_data_are_kept_by_value(audit: Audit) -> None:
    from django_signal_audit import record

    audit(*RULES)
    record("painted", data={"color": Color.RED})
    assert last().data == {"color": 1}
