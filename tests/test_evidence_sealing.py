"""Sealing: every committed event gets exactly one leaf, whatever order it comes in."""

from __future__ import annotations

import datetime as dt
import io
import logging
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from django_signal_audit.evidence import verification
from django_signal_audit.evidence.anchoring import keep_sealing
from django_signal_audit.evidence.leaf import COLUMNS, document_of, leaf_text
from django_signal_audit.evidence.notes import PrivateKey
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
    assert out.getvalue() == "1 events sealed, 1 in all.\n"
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


def found() -> list[tuple[str, str]]:
    return [(finding.kind, finding.event) for finding in verification.Verifier("default").findings()]


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
