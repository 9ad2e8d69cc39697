"""The tamper matrix: whatever somebody does to the tables by SQL is found and named, and nothing clean is."""

from __future__ import annotations

import datetime as dt
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from django_signal_audit.evidence.config import get_signer
from django_signal_audit.evidence.findings import Finding
from django_signal_audit.evidence.leaf import COLUMNS, document_of, leaf_text
from django_signal_audit.evidence.notes import Checkpoint, PrivateKey, sign_note, split_note, time_lines
from django_signal_audit.evidence.proofs import ProofError, bundle_of
from django_signal_audit.evidence.records import drop_pruned_prefix
from django_signal_audit.evidence.sealing import Sealer, iso_text, seal
from django_signal_audit.evidence.tree import Stack, leaf_hash, root_of
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf

from .conftest import Audit
from .processes.stage import THOROUGH
from .samples import make_event

pytest.importorskip("cryptography")
pytestmark = pytest.mark.django_db

EVENTS, LEAVES = AuditEvent._meta.db_table, AuditLeaf._meta.db_table
CHECKPOINTS = AuditCheckpoint._meta.db_table
INDEX = connection.ops.quote_name("index")
KEY = PrivateKey.generate("django-signal-audit")
# First, last, at the boundaries of batches of five, and anywhere.
PLACES = tuple(range(23)) if THOROUGH else (0, 4, 5, 9, 22, random.Random(7).randrange(23))


def key() -> str:
    return KEY


@pytest.fixture(autouse=True)
def sealed(audit: Audit) -> None:
    """Seal 23 events in batches of five, signed."""
    audit(EVIDENCE={"KEY": "tests.test_evidence_verify.key"})
    for number in range(23):
        values = (
            {"changes": {"email": [f"{number}@example.com", None], "price": ["1.00", "2.00"]}} if number % 2 else {}
        )
        make_event(recorded_at=timezone.now(), object_id=str(number), model="app.product", **values)
    seal("default", batch_size=5)


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def found(**options: Any) -> list[Finding]:
    return list(Verifier("default", **options).findings())


def kinds(findings: list[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def leaf_at(index: int) -> tuple[Any, str]:
    """Return the uid of an event as the database holds it, and as text."""
    uid = AuditLeaf.objects.get(index=index).event
    return stored(uid), str(uid)


def stored(uid: UUID) -> Any:
    """Return a uid as the database holds it."""
    return AuditEvent._meta.get_field("uid").get_db_prep_value(uid, connection)


def notes() -> list[str]:
    return list(AuditCheckpoint.objects.order_by("size").values_list("note", flat=True))


def rebuild(*, start: int, signer: Any) -> None:
    """Seal everything again from a leaf on, as somebody who holds the database, and perhaps the key, can do."""
    with transaction.atomic():
        AuditCheckpoint.objects.filter(size__gt=start).delete()
        AuditLeaf.objects.filter(index__gte=start).delete()
    sealer = Sealer("default", batch_size=5, is_full=True)
    from django_signal_audit.evidence import sealing

    original, sealing.get_signer = sealing.get_signer, lambda: signer
    try:
        sealer.run()
    finally:
        sealing.get_signer = original


def test_what_nobody_touched_has_no_finding() -> None:
    verifier = Verifier("default")
    assert list(verifier.findings()) == []
    assert (verifier.verdict.leaves, verifier.verdict.checkpoints, verifier.verdict.signed) == (23, 5, 5)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "change",
    [
        "object_repr = 'eve'",
        "object_id = '999'",
        "model = 'app.other'",
        "actor_id = 'eve'",
        "actor_repr = 'eve'",
        "level = 'warning'",
        "event_type = 'delete'",
        "source = 'import'",
        "changes = '{}'",
        "data = '{\"a\": 1}'",
        "context = '[]'",
        "correlation_id = 'x'",
        "recorded_at = '2026-01-01 00:00:00'",
        "signature = 7",
        "tenant = 'north'",
        "rules = '[\"x\"]'",
    ],
)
def test_an_edited_event_is_named(place: int, change: str) -> None:
    uid, name = leaf_at(place)
    before = AuditEvent.objects.filter(uid=name).values().get()
    sql(f"UPDATE {EVENTS} SET {change} WHERE uid = %s", uid)
    if AuditEvent.objects.filter(uid=name).values().get() == before:
        pytest.skip("it has this value already")
    findings = found()
    assert {(item.index, item.event) for item in findings} == {(place, name)}
    assert "edited" in kinds(findings)


@pytest.mark.parametrize("place", PLACES)
def test_a_renumbered_event_is_named(place: int) -> None:
    uid, name = leaf_at(place)
    sql(f"UPDATE {EVENTS} SET id = id + 100000 WHERE uid = %s", uid)
    assert [(item.kind, item.event) for item in found()] == [("edited", name)]


@pytest.mark.parametrize("place", PLACES)
def test_an_event_that_gets_another_uid_is_named_by_its_former_one(place: int) -> None:
    uid, name = leaf_at(place)
    sql(f"UPDATE {EVENTS} SET uid = %s WHERE uid = %s", stored(uuid4()), uid)
    assert [(item.kind, item.index, item.event) for item in found()] == [("deleted", place, name)]


@pytest.mark.parametrize("place", PLACES)
def test_a_leaf_whose_hash_was_changed_is_named(place: int) -> None:
    uid, name = leaf_at(place)
    sql(f"UPDATE {LEAVES} SET hash = %s WHERE event = %s", b"x" * 32, uid)
    findings = found()
    assert {(item.index, item.event) for item in findings if item.kind == "edited"} == {(place, name)}
    assert kinds(findings) == {"edited", "root"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_leaf_whose_hash_has_another_length_is_named_and_hides_nothing_else(place: int, length: int) -> None:
    uid, name = leaf_at(place)
    other = (place + 9) % 23
    sql(f"UPDATE {LEAVES} SET hash = %s WHERE event = %s", b"x" * length, uid)
    sql(f"DELETE FROM {EVENTS} WHERE uid = %s", leaf_at(other)[0])
    findings = found()
    assert kinds(findings) == {"edited", "root", "deleted"}
    assert {item.index: item.event for item in findings if item.kind == "edited"} == {place: name}
    assert [item.index for item in findings if item.kind == "deleted"] == [other]


@pytest.mark.parametrize("length", [1, 31])
def test_a_checkpoint_whose_subtrees_have_another_length_is_named(length: int) -> None:
    """Of an unsigned log somebody can make the root and the note fit."""
    checkpoint = AuditCheckpoint.objects.get(size=10)
    cut = bytes(checkpoint.stack)[:32] + b"x" * length
    sql(f"UPDATE {CHECKPOINTS} SET stack = %s WHERE size = 10", cut)
    assert ("checkpoint", 10) in [(item.kind, item.index) for item in found()]


@pytest.mark.parametrize("place", PLACES)
def test_a_deleted_event_is_named(place: int) -> None:
    uid, name = leaf_at(place)
    sql(f"DELETE FROM {EVENTS} WHERE uid = %s", uid)
    assert [(item.kind, item.index, item.event) for item in found()] == [("deleted", place, name)]


@pytest.mark.parametrize("place", PLACES)
def test_an_event_deleted_with_its_leaf_is_named_by_its_number(place: int) -> None:
    uid, _name = leaf_at(place)
    sql(f"DELETE FROM {EVENTS} WHERE uid = %s", uid)
    sql(f"DELETE FROM {LEAVES} WHERE event = %s", uid)
    findings = found()
    assert findings, "nothing was found"
    assert {item.kind for item in findings} <= {"leaf", "deleted"}
    assert findings[0].index == place or (place == 0 and findings[0].index in (0, 1))


@pytest.mark.parametrize("place", PLACES)
def test_an_event_edited_with_its_leaf_contradicts_the_checkpoint(place: int) -> None:
    uid, name = leaf_at(place)
    sql(f"UPDATE {EVENTS} SET correlation_id = 'x' WHERE uid = %s", uid)
    row = AuditEvent.objects.filter(uid=name).values_list(*COLUMNS).get()
    leaf = AuditLeaf.objects.get(index=place)
    digest = leaf_hash(leaf_text(document_of(row), leaf.commitments).encode())
    sql(f"UPDATE {LEAVES} SET hash = %s WHERE event = %s", digest, uid)
    [finding] = found()
    assert (finding.kind, finding.index) == ("root", min((place // 5 + 1) * 5, 23))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("distance", [1, 6])
def test_leaves_that_change_places_contradict_the_checkpoint(place: int, distance: int) -> None:
    partner = (place + distance) % 23
    (one, _), (other, _) = leaf_at(place), leaf_at(partner)
    sql(f"UPDATE {LEAVES} SET {INDEX} = 500 WHERE event = %s", one)
    sql(f"UPDATE {LEAVES} SET {INDEX} = %s WHERE event = %s", place, other)
    sql(f"UPDATE {LEAVES} SET {INDEX} = %s WHERE event = %s", partner, one)
    assert "root" in kinds(found())


@pytest.mark.parametrize("place", PLACES)
def test_an_event_with_a_leaf_of_its_own_between_others_contradicts_the_checkpoint(place: int) -> None:
    """All leaves behind it move up, and the last one has no checkpoint any more."""
    forged = make_event(recorded_at=AuditEvent.objects.get(uid=leaf_at(place)[1]).recorded_at)
    row = AuditEvent.objects.filter(uid=forged.uid).values_list(*COLUMNS).get()
    digest = leaf_hash(leaf_text(document_of(row), {}).encode())
    sql(f"UPDATE {LEAVES} SET {INDEX} = -1 - {INDEX} WHERE {INDEX} >= %s", place)
    sql(f"UPDATE {LEAVES} SET {INDEX} = -{INDEX} WHERE {INDEX} < 0")
    sql(
        f"INSERT INTO {LEAVES} ({INDEX}, event, hash, commitments) VALUES (%s, %s, %s, '{{}}')",
        place,
        stored(forged.uid),
        digest,
    )
    assert {"root", "truncated"} <= kinds(found())


@pytest.mark.parametrize("place", PLACES)
def test_a_tree_that_is_built_without_an_event_contradicts_one_anchored_checkpoint(place: int) -> None:
    anchored = notes()[-1:]
    sql(f"DELETE FROM {EVENTS} WHERE uid = %s", leaf_at(place)[0])
    rebuild(start=0, signer=get_signer())
    assert found() == []
    assert [(item.kind, item.index) for item in found(held=anchored)] == [("truncated", 23)]


@pytest.mark.parametrize("place", [0, 4, 22])
def test_salts_that_are_gone_are_an_edit(place: int) -> None:
    uid, name = leaf_at(place)
    sql(f"UPDATE {LEAVES} SET commitments = '{{}}' WHERE event = %s", uid)
    assert [(item.kind, item.event) for item in found()] == [("edited", name)]


def test_values_erased_without_a_record_are_named() -> None:
    uid, name = leaf_at(3)
    leaf = AuditLeaf.objects.get(index=3)
    row = AuditEvent.objects.filter(uid=name).values_list(*COLUMNS).get()
    from django_signal_audit.evidence.leaf import digest_of, disclosure, value_at

    marks = {
        path: digest_of(disclosure(salt, path, value_at(document_of(row), path)))
        for path, salt in leaf.commitments.items()
    }
    sql(f"UPDATE {LEAVES} SET commitments = %s WHERE event = %s", json.dumps(marks), uid)
    sql(f"UPDATE {EVENTS} SET object_repr = '', changes = %s WHERE uid = %s",
        json.dumps({"email": [{"$masked": "erased"}, None], "price": ["1.00", "2.00"]}), uid)  # fmt: skip
    assert [(item.kind, item.event) for item in found()] == [("erased", name)]


def test_history_that_is_older_than_its_sealing_is_not_back_dated() -> None:
    for model in (AuditLeaf, AuditCheckpoint):
        model.objects.all().delete()
    for days in range(40, 0, -3):
        make_event(recorded_at=timezone.now() - dt.timedelta(days=days), id=-days)
    seal("default", batch_size=4)
    assert found() == []


def test_an_event_written_in_the_past_is_named() -> None:
    make_event(recorded_at=timezone.now() - dt.timedelta(days=3))
    seal("default", is_full=True)
    assert [(item.kind, item.index) for item in found()] == [("backdated", 23)]


@pytest.mark.parametrize("source", ["import", "baseline"])
def test_a_back_dated_event_is_named_whatever_its_source_says(source: str) -> None:
    """Events of an import may be of any time, and have ids below zero, as no other event has."""
    make_event(recorded_at=dt.datetime(2020, 5, 1, tzinfo=dt.UTC), event_type="baseline", source=source, rules=[])
    seal("default")
    assert [(item.kind, item.index) for item in found()] == [("backdated", 23)]


def test_imported_events_are_not_back_dated_and_are_counted() -> None:
    make_event(id=-3, recorded_at=dt.datetime(2001, 1, 1, tzinfo=dt.UTC), source="import")
    seal("default")
    verifier = Verifier("default")
    assert list(verifier.findings()) == []
    assert verifier.verdict.imported == 1


@pytest.mark.parametrize("size", [2, 5, 6, 14, 20, 23])
def test_a_truncated_tail_is_named_where_the_checkpoints_are_left(size: int) -> None:
    keep = size - 1
    for event in AuditLeaf.objects.filter(index__gte=keep).values_list("event", flat=True):
        sql(f"DELETE FROM {EVENTS} WHERE uid = %s", stored(event))
    AuditLeaf.objects.filter(index__gte=keep).delete()
    findings = found()
    assert kinds(findings) == {"leaf"}
    assert [item.index for item in findings] == list(range(keep, 23))


def test_a_log_without_any_leaf_or_event_is_named_where_the_checkpoints_are_left() -> None:
    sql(f"DELETE FROM {EVENTS}")
    sql(f"DELETE FROM {LEAVES}")
    [finding] = found()
    assert (finding.kind, finding.index) == ("deleted", 0)
    assert "The events 0 to 22 are gone" in finding.detail


def test_a_checkpoint_that_is_gone_is_named_by_the_leaves_it_added() -> None:
    AuditCheckpoint.objects.filter(size=23).delete()
    assert {(item.kind, item.index) for item in found()} == {("truncated", 20), ("truncated", 21), ("truncated", 22)}


def restore_backup(size: int = 10) -> None:
    """Take the database back to where it had so many leaves."""
    for event in AuditLeaf.objects.filter(index__gte=size).values_list("event", flat=True):
        sql(f"DELETE FROM {EVENTS} WHERE uid = %s", stored(event))
    AuditLeaf.objects.filter(index__gte=size).delete()
    AuditCheckpoint.objects.filter(size__gt=size).delete()


@pytest.mark.parametrize("size", [0, 5, 10, 20])
def test_a_restored_backup_contradicts_one_anchored_checkpoint(size: int) -> None:
    anchored = notes()[-1:]
    restore_backup(size)
    assert found() == []
    assert [(item.kind, item.index) for item in found(held=anchored)] == [("truncated", 23)]


def test_a_restored_backup_that_has_grown_again_contradicts_one_anchored_checkpoint() -> None:
    anchored = notes()[-1:]
    restore_backup()
    for _ in range(30):
        make_event(recorded_at=timezone.now())
    seal("default", batch_size=7)
    assert found() == []
    assert [(item.kind, item.index) for item in found(held=anchored)] == [("rewritten", 23)]


def test_history_rewritten_without_the_key_has_no_signature() -> None:
    uid, _name = leaf_at(7)
    sql(f"UPDATE {EVENTS} SET object_repr = 'eve' WHERE uid = %s", uid)
    rebuild(start=0, signer=PrivateKey(PrivateKey.generate("django-signal-audit")))
    verifier = Verifier("default")
    list(verifier.findings())
    assert verifier.verdict.signed == 0
    assert verify()[0] == 2
    rebuild(start=0, signer=None)
    assert found() == []  # nothing is signed any more, and nothing was kept elsewhere: see the guarantees
    assert verify()[0] == 2


def test_a_part_of_history_rewritten_without_the_key_is_named() -> None:
    uid, _name = leaf_at(7)
    sql(f"UPDATE {EVENTS} SET object_repr = 'eve' WHERE uid = %s", uid)
    rebuild(start=5, signer=None)
    findings = found()
    assert kinds(findings) == {"signature"}
    assert min(item.index or 0 for item in findings) == 10


def test_history_rewritten_without_the_key_after_a_signed_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text(notes()[1])
    assert verify("--since", str(tmp_path / "kept"))[0] == 0
    rebuild(start=10, signer=None)
    code, text = verify("--since", str(tmp_path / "kept"))
    assert code == 1
    assert text.startswith("signature 15: Checkpoint 15 isn't signed by a known key, earlier ones are.")


def test_signatures_that_are_gone_are_named_if_one_anchored_checkpoint_has_its_own() -> None:
    anchored = notes()[1:2]
    for checkpoint in AuditCheckpoint.objects.all():
        AuditCheckpoint.objects.filter(size=checkpoint.size).update(note=checkpoint.note.split("\n\n")[0] + "\n")
    rebuild(start=10, signer=None)
    assert [(item.kind, item.index) for item in found(held=anchored)] == [
        ("signature", 10), ("signature", 15), ("signature", 20), ("signature", 23),
    ]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_history_rewritten_with_the_key_contradicts_every_anchored_checkpoint_from_there_on(place: int) -> None:
    anchored = notes()
    uid, _name = leaf_at(place)
    sql(f"UPDATE {EVENTS} SET correlation_id = 'x' WHERE uid = %s", uid)
    # From the last checkpoint before it: the salts are drawn again, so that every later leaf is another one.
    rebuild(start=place // 5 * 5, signer=get_signer())
    assert found() == []
    sizes = [size for size in (5, 10, 15, 20, 23) if size > place]
    assert [(item.kind, item.index) for item in found(held=anchored)] == [("rewritten", size) for size in sizes]


def test_a_log_verifies_without_the_key_that_signed_it(audit: Audit) -> None:
    audit()
    code, text = verify()
    assert code == 0
    assert "No checkpoint has a signature of a known key" in text
    uid, name = leaf_at(3)
    sql(f"UPDATE {EVENTS} SET level = 'critical' WHERE uid = %s", uid)
    assert {item.event for item in found()} == {name}


def test_a_checkpoint_that_is_signed_with_the_time_of_an_older_one_is_named() -> None:
    checkpoint = AuditCheckpoint.objects.get(size=15)
    early = checkpoint.sealed_at - dt.timedelta(days=3)
    lines = time_lines(iso_text(early), checkpoint.horizon["began"])
    text = str(Checkpoint("django-signal-audit", 15, bytes(checkpoint.root), lines))
    AuditCheckpoint.objects.filter(size=15).update(sealed_at=early, note=sign_note(text, get_signer()))
    details = [item.detail for item in found() if item.kind == "checkpoint"]
    assert details == ["Checkpoint 15 claims to be older than the one before it."]


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [("root", b"x" * 32, "checkpoint"), ("stack", b"y" * 32, "checkpoint"), ("note", "nothing\n", "signature")],
)
def test_a_changed_checkpoint_is_named(column: str, value: object, kind: str) -> None:
    sql(f"UPDATE {CHECKPOINTS} SET {column} = %s WHERE size = 10", value)
    findings = found()
    assert kind in kinds(findings)
    assert {item.index for item in findings} == {10}


def test_the_time_of_a_checkpoint_is_signed() -> None:
    later = AuditCheckpoint.objects.get(size=10).sealed_at + dt.timedelta(microseconds=1)
    AuditCheckpoint.objects.filter(size=10).update(sealed_at=later)
    assert [(item.kind, item.index) for item in found()] == [("checkpoint", 10)]


@pytest.mark.parametrize("began", [0, 5, "nothing", None])
def test_an_insertion_is_not_hidden_by_the_claim_that_an_old_log_was_searched(began: object) -> None:
    make_event(recorded_at=timezone.now() - dt.timedelta(days=30))
    seal("default")
    assert kinds(found()) == {"backdated"}
    for checkpoint in AuditCheckpoint.objects.filter(size__gt=10):
        checkpoint.horizon["began"] = began
        checkpoint.save(update_fields=["horizon"])
    assert "checkpoint" in kinds(found())


@pytest.mark.parametrize("gone", [[23], [24], [23, 24], [5, 10, 15, 20, 23, 24]])
def test_an_insertion_is_not_hidden_by_deleting_the_checkpoints_before_it(gone: list[int]) -> None:
    """A batch that seems to have been sealed with all before it could be of any time."""
    for days in (0, 30, 0):
        make_event(recorded_at=timezone.now() - dt.timedelta(days=days))
        seal("default")
    assert [(item.kind, item.index) for item in found()] == [("backdated", 24)]
    AuditCheckpoint.objects.filter(size__in=gone).delete()
    assert ("checkpoint", max(gone)) in [(item.kind, item.index) for item in found(held=notes()[-1:])]


def test_checkpoints_of_early_versions_which_did_not_sign_their_times_verify() -> None:
    signer = get_signer()
    for checkpoint in AuditCheckpoint.objects.all():
        text = str(Checkpoint("django-signal-audit", checkpoint.size, bytes(checkpoint.root)))
        AuditCheckpoint.objects.filter(size=checkpoint.size).update(note=sign_note(text, signer))
    assert found() == []


def test_a_forged_checkpoint_is_named() -> None:
    other = PrivateKey(PrivateKey.generate("django-signal-audit"))
    forged = sign_note(str(Checkpoint("django-signal-audit", 10, b"x" * 32)), other)
    sql(f"UPDATE {CHECKPOINTS} SET note = %s WHERE size = 10", forged)
    assert kinds(found()) == {"checkpoint"}


def test_several_findings_do_not_hide_each_other() -> None:
    first, name = leaf_at(2)
    sql(f"UPDATE {EVENTS} SET level = 'critical' WHERE uid = %s", first)
    gone, gone_name = leaf_at(21)
    sql(f"DELETE FROM {EVENTS} WHERE uid = %s", gone)
    sql(f"UPDATE {CHECKPOINTS} SET root = %s WHERE size = 15", b"x" * 32)
    findings = found()
    assert {(item.index, item.event) for item in findings if item.event} == {(2, name), (21, gone_name)}
    assert "checkpoint" in kinds(findings)


@pytest.mark.parametrize("size", [5, 15, 20])
def test_an_auditor_who_holds_a_checkpoint_verifies_only_what_came_after(size: int) -> None:
    since = Checkpoint.of("\n".join(notes()[size // 5 - 1].split("\n")[:3]) + "\n")
    verifier = Verifier("default", since=since)
    assert list(verifier.findings()) == []
    assert verifier.verdict.leaves == 23 - size
    uid, name = leaf_at(22)
    sql(f"UPDATE {EVENTS} SET level = 'critical' WHERE uid = %s", uid)
    assert {item.event for item in found(since=since)} == {name}
    rebuild(start=0, signer=get_signer())
    changed = Checkpoint(since.origin, since.size, b"z" * 32)
    assert "rewritten" in kinds(found(since=changed))


def test_a_sample_finds_what_is_wrong_in_the_batches_that_it_meets() -> None:
    verifier = Verifier("default")
    assert list(verifier.sample(5)) == []
    sql(f"UPDATE {EVENTS} SET level = 'critical'")
    assert kinds(list(Verifier("default").sample(3))) == {"edited"}


@pytest.mark.parametrize(
    ("statement", "left"),
    [(f"UPDATE {EVENTS} SET actor_repr = 'eve' WHERE uid = %s", 1), (f"DELETE FROM {EVENTS} WHERE uid = %s", 0)],
)
def test_what_is_not_sealed_yet_can_be_changed_and_deleted_unseen(statement: str, left: int) -> None:
    event = make_event(recorded_at=timezone.now())
    sql(statement, stored(event.uid))
    verifier = Verifier("default")
    assert list(verifier.findings()) == []
    assert (verifier.verdict.unsealed, verifier.verdict.is_late) == (left, False)
    seal("default")
    assert found() == []  # the guarantees state this limit


def test_an_event_that_is_slipped_in_with_the_present_time_is_sealed_like_any_other() -> None:
    make_event(recorded_at=timezone.now(), object_id="999")
    seal("default")
    assert found() == []  # the guarantees state this limit


@pytest.mark.parametrize("place", PLACES)
def test_an_event_that_is_slipped_in_with_a_leaf_contradicts_the_checkpoint(place: int) -> None:
    uid, _name = leaf_at(place)
    forged = make_event(recorded_at=timezone.now())
    row = AuditEvent.objects.filter(uid=forged.uid).values_list(*COLUMNS).get()
    digest = leaf_hash(leaf_text(document_of(row), {}).encode())
    sql(
        f"UPDATE {LEAVES} SET event = %s, hash = %s, commitments = '{{}}' WHERE event = %s",
        stored(forged.uid),
        digest,
        uid,
    )
    assert "root" in kinds(found())


def verify(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("audit_verify", *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, f"{out.getvalue()}{error}"
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def test_the_command_exits_with_what_was_found(audit: Audit, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    anchors = {
        "file": {"BACKEND": "django_signal_audit.evidence.anchors.file.FileAnchor", "OPTIONS": {"path": str(path)}}
    }
    audit(EVIDENCE={"KEY": "tests.test_evidence_verify.key", "ANCHORS": anchors})
    call_command("audit_seal", stdout=io.StringIO())
    code, text = verify()
    assert (code, text.splitlines()[0]) == (0, "23 events and 5 checkpoints verified, 0 differences.")
    make_event(recorded_at=timezone.now() - dt.timedelta(hours=1))
    assert verify()[0] == 3
    uid, name = leaf_at(3)
    sql(f"UPDATE {EVENTS} SET level = 'critical' WHERE uid = %s", uid)
    code, text = verify("--format", "json")
    record = json.loads(text)
    assert code == 1
    assert {item["event"] for item in record["findings"]} == {name}
    path.write_text("garbage")
    assert verify()[0] == 2


def test_the_command_says_that_nothing_was_signed(audit: Audit) -> None:
    audit()
    rebuild(start=0, signer=None)
    code, text = verify()
    assert code == 0
    assert "No checkpoint has a signature" in text


def test_small_checkpoints_share_their_queries(django_assert_max_num_queries: Callable[..., Any]) -> None:
    for _ in range(40):
        make_event(recorded_at=timezone.now())
        seal("default")
    verifier = Verifier("default")
    with django_assert_max_num_queries(16):
        assert list(verifier.findings()) == []
    assert (verifier.verdict.leaves, verifier.verdict.checkpoints) == (63, 45)


@pytest.mark.parametrize("signer", [None, PrivateKey(PrivateKey.generate("django-signal-audit"))])
def test_all_of_history_rewritten_without_the_key_contradicts_one_checkpoint(signer: Any) -> None:
    kept = notes()[2:3]
    uid, _name = leaf_at(7)
    sql(f"UPDATE {EVENTS} SET object_repr = 'eve' WHERE uid = %s", uid)
    rebuild(start=0, signer=signer)
    verifier = Verifier("default", held=kept)
    findings = {(item.kind, item.index) for item in verifier.findings()}
    assert findings == {("rewritten", 15), ("signature", 15), ("signature", 20), ("signature", 23)}
    assert verifier.verdict.signed == 0


@pytest.mark.parametrize("place", PLACES)
def test_an_event_that_is_edited_is_not_called_back_dated(place: int) -> None:
    uid, _name = leaf_at(place)
    sql(f"UPDATE {EVENTS} SET recorded_at = '2001-01-01 00:00:00' WHERE uid = %s", uid)
    assert kinds(found()) == {"edited"}


def test_an_event_of_the_future_is_named_as_such() -> None:
    make_event(recorded_at=timezone.now() + dt.timedelta(days=3))
    seal("default")
    assert [(item.kind, item.index) for item in found()] == [("postdated", 23)]


def test_a_log_that_a_wrong_clock_kept_before_it_was_sealed_is_not_back_dated() -> None:
    for model in (AuditLeaf, AuditCheckpoint):
        model.objects.all().delete()
    for days in (40, 39, 8, 37, 36, 35):
        make_event(recorded_at=timezone.now() - dt.timedelta(days=days))
    seal("default", batch_size=2, is_full=True)
    assert found() == []
    make_event(recorded_at=timezone.now() - dt.timedelta(days=34))
    seal("default", is_full=True)
    assert kinds(found()) == {"backdated"}


def test_a_clock_that_was_ahead_makes_nothing_look_old_to_an_auditor_who_verifies_what_came_after() -> None:
    make_event(recorded_at=timezone.now() + dt.timedelta(hours=20))
    seal("default")
    kept = Checkpoint.of(split_note(notes()[-1])[0])
    make_event(recorded_at=timezone.now() - dt.timedelta(hours=6))
    seal("default")
    assert found() == found(since=kept) == list(Verifier("default").sample(100)) == []


def test_what_is_no_json_any_more_is_an_edit_and_hides_nothing_else() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the column takes nothing but JSON")
    sql("PRAGMA ignore_check_constraints = ON")
    try:
        (one, name), (other, other_name) = leaf_at(3), leaf_at(11)
        sql(f"UPDATE {EVENTS} SET changes = 'none' WHERE uid = %s", one)
        sql(f"UPDATE {LEAVES} SET commitments = '[7]' WHERE event = %s", other)
        assert {(item.kind, item.event) for item in found()} == {("edited", name), ("edited", other_name)}
    finally:
        sql("PRAGMA ignore_check_constraints = OFF")


def test_checkpoints_of_other_logs_in_the_same_anchor_are_left_out(audit: Audit, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    other = str(Checkpoint("django-signal-audit/other", 99, b"x" * 32))
    path.write_text(f"{other}\n\n{notes()[-1]}\n\n")
    anchors = {
        "file": {"BACKEND": "django_signal_audit.evidence.anchors.file.FileAnchor", "OPTIONS": {"path": str(path)}}
    }
    audit(EVIDENCE={"KEY": "tests.test_evidence_verify.key", "ANCHORS": anchors})
    code, text = verify("--format", "json")
    assert (code, json.loads(text)["anchored"]) == (0, 1)
    (tmp_path / "other").write_text(other)
    code, text = verify("--checkpoint", str(tmp_path / "other"))
    assert code == 2
    assert "another log" in text


def test_the_contents_of_two_events_that_change_places_are_named() -> None:
    columns = ("object_id", "changes")
    (one, first), (other, second) = leaf_at(1), leaf_at(2)
    told = {name: AuditEvent.objects.filter(uid=name).values_list(*columns).get() for name in (first, second)}
    for uid, name in ((one, second), (other, first)):
        object_id, changes = told[name]
        sql(f"UPDATE {EVENTS} SET object_id = %s, changes = %s WHERE uid = %s", object_id, json.dumps(changes), uid)
    assert [(item.kind, item.event) for item in found()] == [("edited", first), ("edited", second)]


def test_the_uids_of_two_events_that_change_places_are_named() -> None:
    (one, first), (other, second) = leaf_at(1), leaf_at(2)
    sql(f"UPDATE {EVENTS} SET uid = %s WHERE uid = %s", stored(UUID(int=1)), one)
    sql(f"UPDATE {EVENTS} SET uid = %s WHERE uid = %s", one, other)
    sql(f"UPDATE {EVENTS} SET uid = %s WHERE uid = %s", other, stored(UUID(int=1)))
    assert [(item.kind, item.event) for item in found()] == [("edited", first), ("edited", second)]


@pytest.mark.parametrize("step", [1, -1])
def test_a_time_that_is_a_microsecond_off_is_named(step: int) -> None:
    uid, name = leaf_at(3)
    moment = AuditEvent.objects.get(uid=name).recorded_at + dt.timedelta(microseconds=step)
    value = AuditEvent._meta.get_field("recorded_at").get_db_prep_value(moment, connection)
    sql(f"UPDATE {EVENTS} SET recorded_at = %s WHERE uid = %s", value, uid)
    assert [(item.kind, item.event) for item in found()] == [("edited", name)]


@pytest.mark.parametrize(
    "change",
    [
        "object_id = 'Abc'",
        "object_id = 'abc '",
        "object_repr = 'Zoe\u0308'",
        "object_repr = 'zo\u00eb'",
        "correlation_id = 'AB'",
        "model = 'App.product'",
        "rules = '{\"x\": 1}'",
        "rules = '\"x\"'",
        'rules = \'["x", "x"]\'',
        "rules = '[\"X\"]'",
    ],
)
def test_what_a_collation_or_a_reader_calls_the_same_is_an_edit(change: str) -> None:
    event = make_event(
        recorded_at=timezone.now(),
        object_id="abc",
        object_repr="Zo\u00eb",
        correlation_id="ab",
        model="app.product",
        rules=["x"],
    )
    seal("default")
    sql(f"UPDATE {EVENTS} SET {change} WHERE uid = %s", stored(event.uid))
    assert [(item.kind, item.event) for item in found()] == [("edited", str(event.uid))]


def test_the_same_time_before_the_first_year_is_an_edit() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("other databases have no such times")
    uid, name = leaf_at(3)
    sql(f"UPDATE {EVENTS} SET recorded_at = (to_char(recorded_at, 'YYYY-MM-DD HH24:MI:SS.USOF') || ' BC')::timestamptz "
        "WHERE uid = %s", uid)  # fmt: skip
    assert [(item.kind, item.event) for item in found()] == [("edited", name)]


def test_the_same_time_as_bytes_is_an_edit() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the column holds a moment")
    uid, name = leaf_at(3)
    sql(f"UPDATE {EVENTS} SET recorded_at = CAST(recorded_at AS BLOB) WHERE uid = %s", uid)
    assert [(item.kind, item.event) for item in found()] == [("edited", name)]


@pytest.mark.parametrize("pattern", ["%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dX%H:%M:%S.%f",
                                     "%Y-%m-%d %H:%M:%S.%f+05:00", "%Y%m%dT%H%M%S.%f"])  # fmt: skip
def test_a_time_in_another_notation_is_an_edit(pattern: str) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the column holds a moment, not a text")
    uid, name = leaf_at(3)
    moment = AuditEvent.objects.get(uid=name).recorded_at.astimezone(dt.UTC)
    sql(f"UPDATE {EVENTS} SET recorded_at = %s WHERE uid = %s", moment.strftime(pattern), uid)
    assert [(item.kind, item.event) for item in found()] == [("edited", name)]


@pytest.mark.parametrize("table", ["events", "leaves"])
def test_a_key_that_comes_twice_is_an_edit(table: str) -> None:
    if connection.vendor == "postgresql":
        pytest.skip("its JSON has each key once")
    uid, name = leaf_at(3)
    if table == "events":
        changes = '{"price": ["7.00", "8.00"], "email": ["3@example.com", null], "price": ["1.00", "2.00"]}'
        sql(f"UPDATE {EVENTS} SET changes = %s WHERE uid = %s", changes, uid)
        assert AuditEvent.objects.get(uid=name).changes["price"] == ["1.00", "2.00"]
        assert AuditEvent.objects.filter(changes__price__0="7.00").exists()  # the database finds the other
    else:
        salts = json.dumps(AuditLeaf.objects.get(index=3).commitments)
        sql(
            f"UPDATE {LEAVES} SET commitments = %s WHERE event = %s",
            f'{salts[:-1]}, "context": "x", "context": ""}}',
            uid,
        )
    assert [(item.kind, item.event) for item in found()] == [("edited", name)]


@pytest.mark.skipif(connection.vendor == "mysql", reason="a statement that changes a table ends the test's transaction")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_second_event_with_the_uid_of_a_sealed_one_is_named(place: int, *, is_first: bool) -> None:
    """No leaf is missing for it, so it would look sealed; the owner of the table can drop the constraint."""
    uid, name = leaf_at(place)
    columns = ", ".join(
        connection.ops.quote_name(field.column) for field in AuditEvent._meta.local_fields if field.column != "id"
    )
    second = f"SELECT id + 1000000000 AS id, {columns} FROM {EVENTS} WHERE uid = %s"
    others = f"SELECT id, {columns} FROM {EVENTS}"
    one, other, values = (second, others, ([uid], [])) if is_first else (others, second, ([], [uid]))
    sql(f"CREATE TABLE beside AS {others} WHERE 1 = 0")
    sql(f"INSERT INTO beside {one}", *values[0])
    sql(f"INSERT INTO beside {other}", *values[1])
    sql(f"ALTER TABLE {EVENTS} RENAME TO before_that")
    sql(f"ALTER TABLE beside RENAME TO {EVENTS}")
    sql(f"UPDATE {EVENTS} SET object_repr = 'eve' WHERE id > 1000000000")
    event = AuditEvent.objects.get(id__gt=1_000_000_000)
    assert [(item.kind, item.index, item.event) for item in found()] == [("edited", place, name)]
    with pytest.raises(ProofError, match="isn't what was sealed"):
        bundle_of(event, "default")


@pytest.mark.parametrize("place", [0, 22])
def test_a_leaf_beside_the_others_is_named(place: int) -> None:
    uid = uuid4()
    number = -1 if place == 0 else 23
    sql(f"INSERT INTO {LEAVES} ({INDEX}, event, hash, commitments) VALUES (%s, %s, %s, '{{}}')",
        number, stored(uid), b"x" * 32)  # fmt: skip
    assert kinds(found()) & {"deleted", "truncated"}


class TestKeptCheckpoints:
    """Checkpoints that others hold, where the log does not begin with its first leaf."""

    def prune(self, size: int) -> None:
        uids = list(AuditLeaf.objects.filter(index__lt=size).values_list("event", flat=True))
        AuditEvent.objects.filter(uid__in=uids).prune()
        assert drop_pruned_prefix("default") == size

    @pytest.mark.parametrize("size", [5, 15, 20])
    def test_the_checkpoint_where_an_auditor_begins_may_be_anchored_too(self, size: int) -> None:
        begin = notes()[size // 5 - 1]
        verifier = Verifier("default", since=Checkpoint.of(split_note(begin)[0]), held=notes())
        assert list(verifier.findings()) == []
        assert verifier.verdict.anchored == 6 - size // 5

    def test_the_checkpoint_that_a_prune_left_as_the_beginning_may_be_anchored(self) -> None:
        kept = notes()
        self.prune(10)
        assert found(held=kept) == []
        verifier = Verifier("default", held=kept[:2])
        assert list(verifier.findings()) == []
        assert (verifier.verdict.anchored, verifier.verdict.is_unconfirmed) == (1, False)

    def test_checkpoints_that_are_all_older_than_what_a_prune_left_confirm_nothing(self, tmp_path: Path) -> None:
        kept = tmp_path / "kept"
        kept.write_text(notes()[0])
        self.prune(10)
        code, text = verify("--checkpoint", str(kept))
        assert code == 2
        assert "The log was pruned up to a checkpoint that is newer than all that were kept" in text
        newer = tmp_path / "newer"
        newer.write_text(notes()[3])
        assert verify("--checkpoint", str(kept), "--checkpoint", str(newer))[0] == 0

    @pytest.mark.parametrize("are_checkpoints_left", [True, False])
    def test_a_history_that_was_rewritten_with_the_key_is_not_hidden_by_a_prune(
        self, tmp_path: Path, *, are_checkpoints_left: bool
    ) -> None:
        """Whoever has the key can seal a prune as well: its beginning is newer than all that others hold."""
        kept = tmp_path / "kept"
        kept.write_text(notes()[-1])
        left = list(AuditCheckpoint.objects.all())
        sql(f"UPDATE {EVENTS} SET object_repr = 'eve'")
        for _ in range(10):
            make_event(recorded_at=timezone.now())
        rebuild(start=0, signer=get_signer())
        self.prune(30)
        AuditCheckpoint.objects.filter(size__lt=30).delete()
        if are_checkpoints_left:
            AuditCheckpoint.objects.bulk_create(left)
        code, text = verify("--checkpoint", str(kept))
        assert (code, text.startswith("rewritten 23")) == ((2, False) if are_checkpoints_left else (1, True))

    @pytest.mark.parametrize("arguments", [[], ["--sample", "3"]])
    def test_one_that_is_damaged_or_forged_is_no_proof_of_anything(self, tmp_path: Path, arguments: list[str]) -> None:
        kept = tmp_path / "kept"
        kept.write_text(notes()[2].replace("\n15\n", "\n14\n"))
        code, text = verify("--checkpoint", str(kept), *arguments)
        assert code == 2
        assert "A checkpoint that was kept elsewhere is damaged: The signature of django-signal-audit is wrong" in text

    def test_a_sample_is_compared_with_them_too(self, tmp_path: Path) -> None:
        kept = tmp_path / "kept"
        kept.write_text(notes()[-1])
        code, text = verify("--sample", "2", "--checkpoint", str(kept), "--format", "json")
        assert (code, json.loads(text)["anchored"]) == (0, 1)
        restore_backup()
        assert verify("--sample", "2", "--checkpoint", str(kept))[1].startswith("truncated 23")
        for _ in range(13):
            make_event(recorded_at=timezone.now())
        seal("default")
        code, text = verify("--sample", "2", "--checkpoint", str(kept))
        assert (code, text.startswith("rewritten 23")) == (1, True)
        restore_backup(0)
        assert verify("--sample", "2", "--checkpoint", str(kept))[0] == 1

    @pytest.mark.parametrize("first", [0, 1])
    def test_a_sample_finds_a_truncated_tail_whose_checkpoints_are_left(self, first: int) -> None:
        AuditLeaf.objects.filter(index__gte=first).delete()
        assert "leaf" in kinds(list(Verifier("default").sample(40)))

    def test_a_sample_that_finds_leaves_without_a_checkpoint_is_not_clean(self) -> None:
        AuditCheckpoint.objects.filter(size__gt=5).delete()
        code, text = verify("--sample", "40")
        assert (code, text.startswith("truncated")) == (1, True)


@pytest.mark.parametrize("size", [10**12, 2**62])
def test_a_checkpoint_of_more_leaves_than_there_are_ends_the_verification_all_the_same(size: int) -> None:
    stack = b"x" * 32 * size.bit_count()
    root = Stack.unpacked(size, stack).root()
    note = str(Checkpoint("django-signal-audit", size, root))
    forged = AuditCheckpoint(size=size, root=root, stack=stack, note=note, leaf_format=1, sealed_at=timezone.now())
    forged.save(force_insert=True)
    findings = found()
    assert {item.kind for item in findings} == {"leaf", "signature"}
    lost = [item for item in findings if item.kind == "leaf"]
    assert len(lost) == 1001
    assert lost[0].index == 23
    assert lost[-1].detail == f"The leaves 1023 to {size - 1} are gone: their events and they were deleted."


def test_what_others_hold_between_two_checkpoints_is_compared() -> None:
    AuditCheckpoint.objects.filter(size__in=[5, 10]).delete()
    kept = [str(Checkpoint("django-signal-audit", size, root_of_first(size))) for size in (3, 7, 12, 23)]
    verifier = Verifier("default", held=kept)
    assert list(verifier.findings()) == []
    assert verifier.verdict.anchored == 4
    kept[1] = str(Checkpoint("django-signal-audit", 7, b"x" * 32))
    assert [(item.kind, item.index) for item in found(held=kept)] == [("rewritten", 7)]


def root_of_first(size: int) -> bytes:
    leaves = AuditLeaf.objects.filter(index__lt=size).order_by("index")
    return root_of(bytes(item) for item in leaves.values_list("hash", flat=True))


@pytest.mark.parametrize("option", ["--sample", "--limit", "--jobs"])
@pytest.mark.parametrize("number", ["0", "-3"])
def test_a_number_of_nothing_verifies_nothing_and_is_2(option: str, number: str) -> None:
    code, text = verify(option, number)
    assert code == 2
    assert f"{option} {number} isn't a number of" in text


def test_imported_events_are_counted_where_people_read_it() -> None:
    make_event(id=-3, recorded_at=dt.datetime(2001, 1, 1, tzinfo=dt.UTC), source="import")
    seal("default")
    assert "Imported events, whose times nobody can verify: 1." in verify()[1]


def test_a_log_under_another_name_says_so(audit: Audit) -> None:
    audit(EVIDENCE={"KEY": "tests.test_evidence_verify.key", "ORIGIN": "example.com/audit"})
    details = {item.detail for item in found() if item.index == 5}
    assert details == {
        "Checkpoint 5 is of another log: its origin is django-signal-audit, and this one's is example.com/audit."
    }


def test_the_last_checkpoint_that_an_anchor_took_must_still_be_there(audit: Audit, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    anchors = {
        "file": {"BACKEND": "django_signal_audit.evidence.anchors.file.FileAnchor", "OPTIONS": {"path": str(path)}}
    }
    audit(EVIDENCE={"KEY": "tests.test_evidence_verify.key", "ANCHORS": anchors})
    assert verify()[0] == 0  # it took none yet
    call_command("audit_seal", stdout=io.StringIO())
    assert verify()[0] == 0
    published = path.read_text()
    for damage in ("", published.replace("\n23\n", "\n22\n"), published[:-40]):
        path.write_text(damage)
        assert verify()[0] == 2
    path.unlink()
    code, text = verify()
    assert code == 2
    assert 'the anchor "file" no longer has checkpoint 23, the last one that it took' in text
    assert verify("--no-anchors")[0] == 0
