"""Sealing: every committed event gets exactly one leaf, whatever order it comes in."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from django_signal_audit.evidence import standalone, verification
from django_signal_audit.evidence.anchoring import keep_sealing
from django_signal_audit.evidence.leaf import COLUMNS, IS_FOREIGN, as_text, document_of, leaf_text
from django_signal_audit.evidence.notes import Checkpoint, PrivateKey
from django_signal_audit.evidence.proofs import bundle_of
from django_signal_audit.evidence.sealing import CannotSeal, Sealer, seal, unsealed
from django_signal_audit.evidence.tree import Stack, leaf_hash, root_of
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf

from .app.models import Category
from .conftest import Audit
from .samples import make_event

pytestmark = pytest.mark.django_db(transaction=True)


def recent(**values: Any) -> AuditEvent:
    return make_event(**{"recorded_at": timezone.now(), **values})


def assert_whole() -> None:
    """Every event has one leaf, the indices are dense, and each checkpoint has the root of the leaves before it."""
    leaves = list(AuditLeaf.objects.order_by("index"))
    assert [leaf.index for leaf in leaves] == list(range(len(leaves)))
    assert {leaf.event for leaf in leaves} == set(AuditEvent.objects.values_list("uid", flat=True))
    rows = {UUID(row[1]): row for row in AuditEvent.objects.values_list(*COLUMNS)}
    for leaf in leaves:
        text = leaf_text(document_of(rows[leaf.event]), leaf.commitments)
        assert leaf_hash(text.encode()) == bytes(leaf.hash)
    for checkpoint in AuditCheckpoint.objects.all():
        root = root_of(bytes(leaf.hash) for leaf in leaves[: checkpoint.size])
        assert bytes(checkpoint.root) == root == Stack.unpacked(checkpoint.size, bytes(checkpoint.stack)).root()


def test_each_event_is_sealed_once_in_batches(audit: Audit) -> None:
    audit()
    for number in range(7):
        Category.objects.create(name=str(number))
    assert seal("default", batch_size=3).sealed == 7
    assert seal("default").sealed == 0
    assert list(AuditCheckpoint.objects.order_by("size").values_list("size", flat=True)) == [3, 6, 7]
    assert_whole()


def test_nothing_is_sealed_where_nothing_is_recorded() -> None:
    assert seal("default").size == 0
    assert not AuditCheckpoint.objects.exists()


def test_an_event_with_an_id_below_the_sealed_ones_is_sealed_in_the_next_round() -> None:
    first = recent()
    recent(id=first.pk + 5)
    seal("default")
    late = recent(id=first.pk + 2)
    # On SQLite ids commit in their order, so only what somebody wrote by hand lies there.
    seal("default", is_full=connection.vendor == "sqlite")
    assert AuditLeaf.objects.filter(event=late.uid).count() == 1
    assert_whole()


def test_imported_events_below_all_ids_are_sealed_at_once() -> None:
    for number in range(4):
        recent()
        seal("default")
        make_event(id=-10 * (number + 1), source="import", recorded_at=dt.datetime(2001, 1, 1, tzinfo=dt.UTC))
        assert seal("default").sealed == 1
    assert_whole()


def test_ids_that_were_given_out_earlier_but_commit_later_are_not_lost() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time: ids commit in order")
    begun, may_commit = threading.Event(), threading.Event()

    def write_slowly() -> None:
        try:
            with transaction.atomic():
                recent(object_repr="slow")
                begun.set()
                may_commit.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=write_slowly)
    thread.start()
    assert begun.wait(30)
    for _ in range(6):
        recent(object_repr="fast")
        seal("default")
    may_commit.set()
    thread.join()
    assert seal("default").sealed == 1
    assert_whole()


def test_what_is_sealed_already_is_not_read_again(django_assert_max_num_queries: Callable[..., Any]) -> None:
    for _ in range(30):
        recent()
        seal("default", batch_size=10)
    with django_assert_max_num_queries(12):
        seal("default", batch_size=10)


def test_two_sealers_that_meet_leave_one_leaf_per_event(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        recent()
    original = Sealer._write
    others = [True]

    def write(self: Sealer, *args: Any) -> bool:
        if others:
            others.clear()
            Sealer("default", batch_size=2).run()
        return original(self, *args)

    monkeypatch.setattr(Sealer, "_write", write)
    seal("default", batch_size=4)
    assert_whole()
    assert AuditLeaf.objects.count() == 5


def test_a_leaf_number_is_given_out_once() -> None:
    recent()
    seal("default")
    leaf = AuditLeaf.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditLeaf.objects.create(index=leaf.index, event=recent().uid, hash=b"x" * 32)


def test_the_command_says_that_checkpoints_are_not_signed_and_succeeds(audit: Audit) -> None:
    audit()
    Category.objects.create(name="a")
    out, error = io.StringIO(), io.StringIO()
    call_command("audit_seal", stdout=out, stderr=error)
    assert out.getvalue() == "1 event sealed, 1 in all.\n"
    assert "not signed" in error.getvalue()
    assert not unsealed("default").exists()


def test_a_log_that_is_sealed_for_the_first_time_while_it_is_verified_is_clean(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit()
    make_event(recorded_at=timezone.now())

    def latest_checkpoint(using: str) -> AuditCheckpoint | None:
        seal(using)
        return AuditCheckpoint.objects.using(using).order_by("-size").first()

    monkeypatch.setattr(verification, "latest_checkpoint", latest_checkpoint)
    verifier = verification.Verifier("default")
    assert list(verifier.findings()) == []
    assert verifier.verdict.leaves == 1


DEEP = {"sqlite": 900, "mysql": 30, "postgresql": 3000}[connection.vendor]
# What SQL can write, and this package never does.
FOREIGN = {
    "changes": ["[]", "null", "5", '"x"', '{"price": null}', '{"price": [1]}', '{"price": 7}', '{"a": 1, "a": 2}'],
    "rules": ["null", "5", "{}", '{"x": 1}', '"x"', "[[]]", "[1]", "[true]", "[null]"],
    "data": ["null", "5", "[]", '{"a": "\\ud800"}', '{"\\udfff": 1}', '{"text": 1, "text": 2}'],
    "context": ["[" * DEEP + "1e-7" + "]" * DEEP, '{"a": {"b": 1, "b": 2}}', '""'],
}


def write(event: AuditEvent, column: str, value: object) -> None:
    uid = AuditEvent._meta.get_field("uid").get_db_prep_value(event.uid, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {AuditEvent._meta.db_table} SET {column} = %s WHERE uid = %s", [value, uid])


def found() -> list[tuple[str, str]]:
    return [(finding.kind, finding.event) for finding in verification.Verifier("default").findings()]


@pytest.mark.parametrize(("column", "text"), [(name, text) for name, texts in FOREIGN.items() for text in texts])
def test_an_event_that_sql_wrote_in_any_shape_stops_neither_the_sealer_nor_the_verifier(column: str, text: str) -> None:
    event = recent(rules=["x"], changes={"price": ["1", "2"]}, data={"a": 1}, object_repr="ada")
    try:
        write(event, column, text)
    except DatabaseError:
        pytest.skip("the database refuses it")
    recent()
    assert seal("default").sealed == 2
    assert found() == []
    assert standalone.verify_event(bundle_of(event, "default"))["uid"] == str(event.uid)
    assert_whole()
    sealed = text_of(event, column)
    for other in (*FOREIGN[column], "{}", "[]", json.dumps(text)):
        try:
            write(event, column, other)
        except DatabaseError:
            continue
        assert bool(found()) is (text_of(event, column) != sealed), other


def text_of(event: AuditEvent, column: str) -> str:
    """Return a column as the database holds it."""
    return AuditEvent.objects.filter(pk=event.pk).values_list(as_text(column), flat=True).get()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("recorded_at", "2026-11-28X07:00:00.000000"),
        ("recorded_at", "2026-11-28 07:00:00+05:00"),
        ("recorded_at", "infinity"),
        ("recorded_at", "20000-01-01"),
        ("recorded_at", "0044-03-15 12:00:00 BC"),
        ("recorded_at", "2026-02-31 12:00:00.000000"),
        ("recorded_at", "2026"),
        ("recorded_at", b"2026-11-28 07:00:00.000000"),
        ("object_repr", b"\x00\xff"),
        ("event_type", b"login"),
        ("object_id", b"3"),
    ],
)
def test_a_column_that_sql_filled_with_something_else_is_sealed_as_it_is(column: str, value: object) -> None:
    if isinstance(value, bytes) and connection.vendor != "sqlite":
        pytest.skip("the column takes nothing but text")
    event = recent()
    try:
        write(event, column, value)
    except DatabaseError:
        pytest.skip("the database refuses it")
    recent()
    assert seal("default").sealed == 2
    kinds = {kind for kind, _uid in found()}
    assert kinds <= ({"postdated", "backdated"} if column == "recorded_at" else set())
    write(event, column, "2026-11-27 07:00:00.000000" if column == "recorded_at" else "x")
    assert found() == [("edited", str(event.uid))]


def test_an_event_that_sql_wrote_almost_a_day_ago_is_not_backdated() -> None:
    newest = timezone.now()
    recent(recorded_at=newest)
    seal("default")
    event = recent(recorded_at=newest - dt.timedelta(hours=23, minutes=59))
    write(event, "changes", "[]")
    seal("default")
    recent()
    seal("default")
    assert found() == []


def test_no_event_of_ours_counts_as_written_by_sql(audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
    audit()
    Category.objects.create(name="\u2028 \U0001f600 \\ud800 1e-07").delete()
    recent(data={"a": [1e-7, 1e22, 2**70, {"b": "\\ud800"}]}, tenant="north", rules=["x"])
    recent(recorded_at=dt.datetime(2026, 11, 28, 7, tzinfo=dt.UTC))
    seal("default")
    assert caplog.text == ""
    for row in AuditEvent.objects.values_list(*COLUMNS, "signature"):
        assert IS_FOREIGN not in document_of(row)


def test_an_event_that_sql_wrote_is_logged_when_it_is_sealed(caplog: pytest.LogCaptureFixture) -> None:
    event = recent()
    write(event, "changes", "[]")
    seal("default")
    assert f"Event {event.pk} was written by SQL" in caplog.text


def test_every_golden_leaf_of_what_sql_wrote_has_its_hash_for_ever() -> None:
    for line in (Path(__file__).parent / "golden" / "leaves_foreign.jsonl").read_text(encoding="utf-8").splitlines():
        golden = json.loads(line)
        text = leaf_text(document_of(golden["row"]), golden["commitments"])
        assert text == golden["text"]
        assert leaf_hash(text.encode()).hex() == golden["hash"]


@pytest.mark.parametrize("column", ["stack", "root"])
def test_nothing_is_built_on_a_checkpoint_that_was_changed(audit: Audit, column: str) -> None:
    audit()
    recent()
    seal("default")
    checkpoint = AuditCheckpoint.objects.get()
    AuditCheckpoint.objects.update(**{column: b"x" * 32})
    recent()
    with pytest.raises(CannotSeal, match="The newest checkpoint, 1, was changed"):
        seal("default")
    with pytest.raises(CommandError, match="restore it from a backup") as error:
        call_command("audit_seal", stdout=io.StringIO(), stderr=io.StringIO())
    assert error.value.returncode == 2
    AuditCheckpoint.objects.update(**{column: getattr(checkpoint, column)})
    assert seal("default").sealed == 1
    assert found() == []


def forged_note(checkpoint: AuditCheckpoint) -> str:
    """Return the note of a checkpoint as somebody without the key can write it."""
    return str(Checkpoint("django-signal-audit", checkpoint.size, bytes(checkpoint.root)))


@pytest.mark.parametrize("is_note_kept", [True, False])
def test_nothing_is_signed_that_is_built_on_a_tree_which_somebody_rewrote(audit: Audit, *, is_note_kept: bool) -> None:
    """The newest root and subtrees fit each other, and not what was signed: the sealer must not sign for them."""
    audit(EVIDENCE={"KEY": f"{__name__}.key"})
    recent()
    seal("default")
    checkpoint = AuditCheckpoint.objects.get()
    forged = leaf_hash(b"forged")
    AuditCheckpoint.objects.update(root=forged, stack=forged)
    if not is_note_kept:
        text = forged_note(AuditCheckpoint.objects.get()) + checkpoint.note[checkpoint.note.index("\n\u2014") :]
        AuditCheckpoint.objects.update(note=text)
    recent()
    with pytest.raises(CannotSeal, match="The newest checkpoint, 1, was changed"):
        seal("default")
    AuditCheckpoint.objects.update(root=checkpoint.root, stack=checkpoint.stack, note=checkpoint.note)
    assert seal("default").sealed == 1
    assert found() == []


def test_a_log_without_a_key_is_signed_from_the_first_key_on(audit: Audit) -> None:
    audit()
    recent()
    seal("default")
    audit(EVIDENCE={"KEY": f"{__name__}.key"})
    recent()
    assert seal("default").sealed == 1
    assert found() == []


def test_a_search_that_is_said_to_have_been_in_the_future_is_made_again(audit: Audit) -> None:
    audit()
    recent()
    seal("default", is_full=True)
    late = recent()
    later = (timezone.now() + dt.timedelta(days=400)).isoformat()
    AuditCheckpoint.objects.update(
        horizon={"low": late.pk - 1, "high": late.pk, "searched": later, "marks": [], "began": 0}
    )
    assert seal("default").sealed == 1


@pytest.mark.parametrize(
    "horizon",
    [
        [],
        "nothing",
        {"marks": 5},
        {"low": "a", "high": 3, "searched": "", "marks": []},
        {"low": 1, "high": None, "searched": "", "marks": []},
        {"low": 1, "high": 900, "searched": 5, "marks": []},
        {"low": 1, "high": 900, "searched": "2026-11-28T00:00:00", "marks": []},
        {"low": 1, "high": 900, "searched": "", "marks": [["never", 1, 2, 3]]},
        {"low": 1, "high": 900, "searched": "", "marks": [[1]]},
    ],
)
def test_a_horizon_that_is_none_has_the_whole_table_searched(horizon: object) -> None:
    recent()
    seal("default")
    AuditCheckpoint.objects.update(horizon=horizon)
    recent()
    assert seal("default").sealed == 1
    assert_whole()


KEY = PrivateKey.generate("django-signal-audit")


class AwaySigner:
    """Stands for a service that keeps the key, and can't be reached."""

    public_key = PrivateKey(KEY).public_key

    def sign(self, data: bytes) -> bytes:
        raise ConnectionError("the vault is away")


class OtherSigner(AwaySigner):
    """Signs with another key."""

    def sign(self, data: bytes) -> bytes:
        return PrivateKey(PrivateKey.generate("django-signal-audit")).sign(data)


class ShortSigner(AwaySigner):
    """Returns something else than a signature."""

    def sign(self, data: bytes) -> bytes:
        return b"x" * 10


@pytest.mark.parametrize(
    ("signer", "message"),
    [
        ("AwaySigner", "ConnectionError: the vault is away"),
        ("OtherSigner", "isn't an Ed25519 signature by django-signal-audit"),
        ("ShortSigner", "isn't an Ed25519 signature by django-signal-audit"),
    ],
)
def test_a_signer_that_fails_leaves_nothing_half_sealed_and_is_asked_again(
    audit: Audit, signer: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    audit(EVIDENCE={"KEY": f"{__name__}.{signer}", "INTERVAL": "1s"})
    recent()
    with pytest.raises(CommandError, match=message) as error:
        call_command("audit_seal", stdout=io.StringIO(), stderr=io.StringIO())
    assert error.value.returncode == 2
    assert not AuditLeaf.objects.exists()
    stop = threading.Event()

    class Twice(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(caplog.records) > 2:
                stop.set()

    handler = Twice()
    logging.getLogger("django_signal_audit").addHandler(handler)
    try:
        keep_sealing("default", stop)
    finally:
        logging.getLogger("django_signal_audit").removeHandler(handler)
    assert caplog.text.count("Nothing is sealed; trying again.") >= 2
    audit(EVIDENCE={"KEY": f"{__name__}.key"})
    assert seal("default").sealed == 1
    assert found() == []


def key() -> str:
    return KEY
