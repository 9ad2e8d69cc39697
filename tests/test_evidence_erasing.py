"""Erasing a person's data: the values are gone everywhere, and every proof stays as it was."""

from __future__ import annotations

import datetime as dt
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from django_signal_audit import audit_context
from django_signal_audit.evidence import standalone
from django_signal_audit.evidence.erasure import Erasure
from django_signal_audit.evidence.leaf import digest_of, disclosure, is_erased
from django_signal_audit.evidence.proofs import bundle_of
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.exceptions import ImmutableEvent
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf, ChannelState, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.testing import drain

from .app.models import Place, Restaurant
from .conftest import Audit
from .samples import make_event

pytestmark = pytest.mark.django_db

SECRETS = ("lady-ada", "lovelace", "ada@example.com", "10.0.0.7")


@pytest.fixture
def ada(audit: Audit) -> User:
    """Record what a user does and what is done to her, sealed, and beside it what another does."""
    audit(
        {"name": "users", "model": "auth.User", "exclude": ["last_login", "date_joined"]},
        {"name": "all", "model": "app.*"},
    )
    with audit_context(actor="eve"):
        ada = User.objects.create(username="lady-ada", email="ada@example.com", last_name="lovelace")
        other = User.objects.create(username="bob", email="bob@example.com")
    with audit_context(actor=ada, ip="10.0.0.7"):
        other.first_name = "Bobby"
        other.save()
    ada.email = "ada@lovelace.example"
    ada.save()
    Notification.objects.create(
        event=AuditEvent.objects.filter(object_id=str(ada.pk)).latest("id").uid,
        rule="r",
        channel="inbox",
        status="sent",
        data={"subject": "lady-ada changed", "body": "ada@example.com"},
    )
    seal("default")
    return ada


def erase(pk: object, *arguments: str) -> str:
    out = io.StringIO()
    call_command("audit_erase", "--subject", "auth.user", str(pk), *arguments, stdout=out)
    return out.getvalue()


def everything() -> str:
    """Return all that the tables hold, as text."""
    found = []
    with connection.cursor() as cursor:
        for model in (AuditEvent, AuditLeaf, AuditCheckpoint, Notification):
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")
            # psycopg 2 gives bytes as a memoryview, whose text is where it lies.
            rows = ([bytes(one) if isinstance(one, memoryview) else one for one in row] for row in cursor.fetchall())
            found += map(str, rows)
    return "\n".join(found)


def verified() -> tuple[list[str], int]:
    verifier = Verifier("default")
    return [finding.kind for finding in verifier.findings()], verifier.verdict.erased


def test_nothing_that_tells_of_the_person_is_left_and_proofs_stay(ada: User) -> None:
    hashes = dict(AuditLeaf.objects.values_list("index", "hash"))
    checkpoint = AuditCheckpoint.objects.latest("size")
    assert any(secret in everything() for secret in SECRETS)
    erase(ada.pk, "--reason", "request 7", "--actor", "officer")
    assert not [secret for secret in SECRETS if secret in everything()]
    assert "Bobby" in everything() or "bob@example.com" in everything()
    seal("default")
    assert verified()[0] == []
    assert verified()[1] > 0
    assert {index: bytes(value) for index, value in hashes.items()} == {
        index: bytes(value)
        for index, value in AuditLeaf.objects.filter(index__lt=checkpoint.size).values_list("index", "hash")
    }
    first = AuditEvent.objects.filter(object_id=str(ada.pk), event_type="create").get()
    event = standalone.verify_event(bundle_of(first, "default"))
    assert "changes.email.1" in event["erased"]
    assert event["object_id"] == str(ada.pk)


def test_the_erasure_is_an_event_without_personal_data(ada: User) -> None:
    erase(ada.pk, "--actor", "officer")
    record = AuditEvent.objects.get(event_type="personal_data_erased")
    assert record.actor_repr == "officer"
    assert record.data["model"] == "auth.user"
    marked = {str(leaf.event) for leaf in AuditLeaf.objects.all() if any(map(is_erased, leaf.commitments.values()))}
    assert set(record.data["events"]) == marked
    assert not [secret for secret in SECRETS if secret in json.dumps(record.data)]


def test_what_others_did_and_are_stays(ada: User) -> None:
    other = User.objects.get(username="bob")
    before = AuditEvent.objects.filter(object_id=str(other.pk)).values("changes", "object_repr", "object_id")
    expected = list(before)
    erase(ada.pk)
    assert list(before.all()) == expected


def test_state_replay_and_pages_know_that_a_value_was_erased(ada: User) -> None:
    erase(ada.pk)
    state = AuditEvent.objects.state_of(User, ada.pk)
    assert state is not None
    assert str(state["email"]) == "********"
    assert state["is_active"] is True
    replay = Replay([plan for plan in get_registry().plans.values() if plan.model is User], "default")
    assert list(replay.differences()) == []
    out = io.StringIO()
    call_command("audit_history", "auth.User", str(ada.pk), stdout=out)
    assert "erased" in out.getvalue()
    assert "lovelace" not in out.getvalue()


def test_erasing_again_finds_nothing(ada: User) -> None:
    assert "0 values in 0 events" not in erase(ada.pk)
    assert erase(ada.pk) == "0 values in 0 events erased, 0 messages emptied.\n"
    assert erase(ada.pk, "--dry-run") == "0 values in 0 events would be erased, 0 messages emptied.\n"


@pytest.mark.parametrize("subject", ["app.place", "app.restaurant"])
def test_a_row_and_the_rows_of_its_parents_and_children_are_one_person(audit: Audit, subject: str) -> None:
    audit({"name": "all", "model": "app.*", "personal": ["name"]})
    place = Place.objects.create(name="Ada's")
    Restaurant.objects.create(pk=place.pk, name="Ada's diner")
    seal("default")
    assert "Ada's" in everything()
    call_command("audit_erase", "--subject", subject, str(place.pk), stdout=io.StringIO())
    assert "Ada's" not in everything()
    assert verified()[0] == []


def quote(message: Any) -> None:
    """Fail as a server does that quotes what it refuses."""
    raise ValueError(message.subject)


def test_neither_a_channels_last_error_nor_an_address_tells_of_the_person(audit: Audit) -> None:
    target = {"target": f"{__name__}.quote"}
    audit(
        {"name": "users", "model": "auth.User", "notify": ["quoting"], "subject": "{{ new.email }}"},
        CHANNELS={
            "quoting": {"BACKEND": "django_signal_audit.channels.callable.CallableChannel", "OPTIONS": target},
        },
    )
    user = User.objects.create(username="lady-ada", email="ada@example.com")
    drain()
    assert "ada@example.com" in ChannelState.objects.get(channel="quoting").last_error
    address = {"user": str(user.pk), "recipient": "ada@example.com", "address": "ada@example.com"}
    sent = Notification.objects.create(rule="r", channel="mail", status="sent", **address)
    due = Notification.objects.create(rule="r", channel="mail", status="failed", **address)
    erase(user.pk)
    assert ChannelState.objects.get(channel="quoting").last_error == ""
    sent.refresh_from_db()
    assert (sent.recipient, sent.address, sent.user) == (str(user.pk), "", str(user.pk))
    due.refresh_from_db()
    assert due.recipient == "ada@example.com"  # it is still to be sent


def test_what_a_prune_left_of_a_person_is_erased_and_is_not_back_dated(audit: Audit) -> None:
    """Its data says which prune left it with the time of an event that is gone, and has nothing personal."""
    audit({"name": "users", "model": "auth.User"})
    for days in range(30, 20, -1):
        changes = {"email": [f"ada{days}@example.com", f"ada{days - 1}@example.com"]}
        make_event(recorded_at=timezone.now() - dt.timedelta(days=days), changes=changes)
    make_event(recorded_at=timezone.now(), object_id="4")
    seal("default")
    call_command("audit_prune", "--keep-last", "2", stdout=io.StringIO())
    [start] = AuditEvent.objects.filter(source="baseline")
    assert verified() == ([], 0)
    erase(3)
    assert "example.com" not in everything()
    assert AuditEvent.objects.get(uid=start.uid).data == start.data
    assert verified() == ([], 3)
    call_command("audit_prune", "--keep-last", "1", stdout=io.StringIO())
    assert verified()[0] == []


@pytest.mark.parametrize("is_sealed", [True, False])
def test_whoever_erases_their_own_data_is_not_named_by_the_record(ada: User, is_sealed: bool) -> None:
    if not is_sealed:
        AuditLeaf.objects.all()._raw_delete("default")
    with audit_context(actor=ada, reason="my wish"):
        report = Erasure(User, ada.pk, "default").run()
    records = AuditEvent.objects.filter(event_type="personal_data_erased")
    assert len(records) == 1
    record = records[0]
    assert (record.actor_id, record.actor_repr, record.context["reason"]) == ("", "", "my wish")
    assert report.events == len(record.data["events"])
    assert not [secret for secret in SECRETS if secret in everything()]


def test_who_did_something_to_an_object_on_legal_hold_stays_known(ada: User) -> None:
    other = User.objects.get(username="bob")
    by_ada = AuditEvent.objects.filter(object_id=str(other.pk), actor_id=str(ada.pk))
    assert by_ada.exists()
    call_command("audit_hold", "auth.User", str(other.pk), "--reason", "lawsuit", stdout=io.StringIO())
    erase(ada.pk)
    assert [event.actor_repr for event in by_ada.all()] == ["lady-ada"] * by_ada.count()
    call_command("audit_hold", "auth.User", str(other.pk), "--release", stdout=io.StringIO())
    erase(ada.pk)
    assert not by_ada.exists()
    assert verified()[0] == []


def test_a_dry_run_erases_nothing(ada: User) -> None:
    before = everything()
    assert "would be erased" in erase(ada.pk, "--dry-run")
    assert everything() == before


def test_an_erased_value_that_is_put_back_is_an_edit(ada: User) -> None:
    erase(ada.pk)
    seal("default")
    event = AuditEvent.objects.filter(object_id=str(ada.pk), event_type="create").get()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {AuditEvent._meta.db_table} SET object_repr = 'eve' WHERE id = %s", [event.pk])
    assert verified()[0] == ["edited"]


def test_what_is_not_sealed_is_sealed_before_it_is_erased(ada: User) -> None:
    ada.email = "late@lovelace.example"
    ada.save()
    erase(ada.pk)
    assert "late@" not in everything()
    seal("default")
    assert verified()[0] == []


def test_without_any_sealing_the_values_are_emptied_too(ada: User) -> None:
    for model in (AuditLeaf, AuditCheckpoint):
        model.objects.all().delete()
    erase(ada.pk)
    assert not [secret for secret in SECRETS if secret in everything()]
    assert not AuditCheckpoint.objects.exists()


def test_erasing_leaves_events_as_immutable_as_they_were(ada: User) -> None:
    erase(ada.pk)
    with pytest.raises(ImmutableEvent):
        AuditEvent.objects.update(object_repr="eve")
    with pytest.raises(ImmutableEvent):
        AuditEvent._base_manager.update(object_repr="eve")


def test_a_field_that_a_rule_calls_personal_is_erased(audit: Audit) -> None:
    from .app.models import Category

    audit({"name": "all", "model": "app.*", "personal": ["name"]})
    category = Category.objects.create(name="Ada's things")
    seal("default")
    out = io.StringIO()
    call_command("audit_erase", "--subject", "app.Category", str(category.pk), stdout=out)
    assert "Ada" not in everything()


@pytest.mark.parametrize("subject", [("auth.Usr", "1"), ("", "1")])
def test_an_unknown_model_is_an_error_of_one_line(subject: Any) -> None:
    with pytest.raises(CommandError, match="There is no model") as error:
        call_command("audit_erase", "--subject", *subject)
    assert error.value.returncode == 2


def test_an_erasure_seals_its_record_at_once(ada: User) -> None:
    erase(ada.pk)
    record = AuditEvent.objects.get(event_type="personal_data_erased")
    assert AuditLeaf.objects.filter(event=record.uid).exists()
    assert verified()[0] == []


@pytest.mark.parametrize(("minutes", "found"), [(0, []), (5, ["erased", "erased"])])
def test_a_record_explains_an_erasure_once_it_is_sealed(ada: User, minutes: int, found: list[str]) -> None:
    event = AuditEvent.objects.filter(object_id=str(ada.pk), event_type="create").get()
    leaf = AuditLeaf.objects.get(event=event.uid)
    shown = disclosure(leaf.commitments["object_repr"], "object_repr", event.object_repr)
    marks = {**leaf.commitments, "object_repr": digest_of(shown)}
    AuditLeaf.objects.filter(pk=leaf.pk).update(commitments=marks)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {AuditEvent._meta.db_table} SET object_repr = '' WHERE id = %s", [event.pk])
    moment = timezone.now() - dt.timedelta(minutes=minutes)
    make_event(event_type="personal_data_erased", data={"events": [str(event.uid)]}, recorded_at=moment)
    assert verified()[0] == found


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def test_an_erasure_where_nothing_was_sealed_is_no_tampering(audit: Audit) -> None:
    audit({"name": "users", "model": "auth.User"})
    user = User.objects.create(username="lady-ada")
    erase(user.pk)
    with time_machine.travel(timezone.now() + dt.timedelta(hours=1)):
        assert verified() == ([], 0)


@pytest.mark.parametrize(("is_recorded", "found"), [(True, []), (False, ["erased"])])
def test_a_record_explains_the_values_that_it_names_alone(ada: User, *, is_recorded: bool, found: list[str]) -> None:
    """Whoever empties another value of an event that was erased before can't refer to the record of that."""
    by_ada = AuditEvent.objects.get(actor_id=str(ada.pk))
    erase(ada.pk)
    bob = User.objects.get(username="bob")
    if is_recorded:
        erase(bob.pk)
    leaf, event = AuditLeaf.objects.get(event=by_ada.uid), AuditEvent.objects.get(pk=by_ada.pk)
    if not is_recorded:
        assert event.object_repr == "bob"
        shown = disclosure(leaf.commitments["object_repr"], "object_repr", event.object_repr)
        AuditLeaf.objects.filter(pk=leaf.pk).update(commitments={**leaf.commitments, "object_repr": digest_of(shown)})
        sql(f"UPDATE {AuditEvent._meta.db_table} SET object_repr = '' WHERE id = %s", event.pk)
    assert verified()[0] == found


@pytest.mark.parametrize(
    "changes", ['{"email": [null, null]}', '{"email": ["", ""]}', '{"email": [{}, null]}', '{"email": [null]}']
)
def test_what_was_erased_cannot_be_made_to_look_as_if_it_had_been_empty(audit: Audit, changes: str) -> None:
    audit()
    event = make_event(model="auth.user", changes={"email": ["ada@example.com", None]}, recorded_at=timezone.now())
    seal("default")
    erase(3)
    assert verified()[0] == []
    sql(f"UPDATE {AuditEvent._meta.db_table} SET changes = %s WHERE id = %s", changes, event.pk)
    assert verified()[0] == ["edited"]


@pytest.mark.parametrize("column", ["data", "context"])
@pytest.mark.parametrize("value", ["null", '""', "[]"])
def test_a_column_that_was_erased_stays_as_erasing_left_it(audit: Audit, column: str, value: str) -> None:
    audit()
    event = make_event(recorded_at=timezone.now(), **{column: {"ip": "10.0.0.7"}})
    seal("default")
    erase(3)
    sql(f"UPDATE {AuditEvent._meta.db_table} SET {column} = %s WHERE id = %s", value, event.pk)
    assert verified()[0] == ["edited"]


@pytest.mark.parametrize(
    ("column", "text"), [("changes", '["ada@example.com"]'), ("data", "[" * 25 + '"ada@example.com"' + "]" * 25)]
)
def test_what_sql_wrote_in_another_shape_is_erased_too(audit: Audit, column: str, text: str) -> None:
    audit()
    event = make_event(recorded_at=timezone.now())
    sql(f"UPDATE {AuditEvent._meta.db_table} SET {column} = %s WHERE id = %s", text, event.pk)
    seal("default")
    erase(3)
    assert "ada@example.com" not in everything()
    assert verified()[0] == []


@pytest.mark.parametrize("limit", [1000, 2000, 65536])
def test_a_record_is_no_longer_than_values_may_be(audit: Audit, limit: int) -> None:
    audit(MAX_VALUE_BYTES=limit)
    for _ in range(30):
        make_event(recorded_at=timezone.now(), changes={"email": ["a@example.com", None]}, data={"a": 1})
    seal("default")
    erase(3)
    assert verified()[0] == []
    assert verified()[1] == 30


def test_nothing_is_erased_if_its_record_would_be_cut_off(audit: Audit) -> None:
    audit(MAX_VALUE_BYTES=1000)
    changes = {f"email_{number:040}": ["a@example.com", None] for number in range(40)}
    event = make_event(recorded_at=timezone.now(), changes=changes)
    seal("default")
    with pytest.raises(CommandError, match="MAX_VALUE_BYTES") as error:
        erase(3)
    assert error.value.returncode == 1
    event.refresh_from_db()
    assert event.changes == changes


def test_an_event_that_comes_while_others_are_erased_is_sealed_before_it_is_erased(
    ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sealer could have read it before, and would seal what is gone."""
    original = Erasure._page

    def page(self: Erasure, last: int | None, newest: int) -> Any:
        if last is None:
            late = make_event(object_id=str(ada.pk), object_repr="lady-ada", recorded_at=timezone.now())
            newest = late.pk
        return original(self, last, newest)

    monkeypatch.setattr(Erasure, "_page", page)
    erase(ada.pk)
    assert not [secret for secret in SECRETS if secret in everything()]
    late = AuditEvent.objects.filter(object_id=str(ada.pk)).latest("id")
    assert any(map(is_erased, AuditLeaf.objects.get(event=late.uid).commitments.values()))
    assert verified()[0] == []


@pytest.mark.django_db(transaction=True)
def test_two_persons_of_one_event_are_erased_at_the_same_time(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    bob = User.objects.get(username="bob")
    original = Erasure._erase
    others: list[threading.Thread] = []

    def erase_beside(self: Erasure, page: Any) -> None:
        if not others:
            others.append(threading.Thread(target=in_a_thread(lambda: Erasure(User, bob.pk, "default").run())))
            original(self, page)
            others[0].start()
            others[0].join(1)  # it waits for this one
            assert others[0].is_alive()
        else:
            original(self, page)

    monkeypatch.setattr(Erasure, "_erase", erase_beside)
    Erasure(User, ada.pk, "default").run()
    others[0].join(30)
    seal("default")
    assert verified()[0] == []
    assert not [secret for secret in (*SECRETS, "Bobby", "bob@example.com") if secret in everything()]


def in_a_thread(work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    return run
