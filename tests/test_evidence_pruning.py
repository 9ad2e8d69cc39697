"""Pruning keeps proofs: what a recorded prune took is no tampering, and everything else that is missing is."""

from __future__ import annotations

import datetime as dt
import io
import json

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from django_signal_audit.evidence import standalone
from django_signal_audit.evidence.proofs import bundle_of, growth_of
from django_signal_audit.evidence.records import described
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf, AuditPrune

from .samples import make_event

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def sealed() -> None:
    """Seal 20 events in batches of four; each is a day younger than the one before."""
    for number in range(20):
        make_event(recorded_at=timezone.now() - dt.timedelta(days=40 - number), object_id=str(number))
    seal("default", batch_size=4)


def prune(*arguments: str) -> str:
    out = io.StringIO()
    call_command("audit_prune", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def verified() -> tuple[list[str], int]:
    verifier = Verifier("default")
    kinds = [finding.kind for finding in verifier.findings()]
    return kinds, verifier.verdict.pruned


def test_a_prefix_goes_with_its_leaves_and_everything_still_verifies() -> None:
    before = AuditCheckpoint.objects.latest("size")
    assert prune("--older-than", "30d") == "11 events pruned.\n"
    assert AuditLeaf.objects.order_by("index")[0].index == 8
    assert verified() == ([], 11)
    kept = AuditEvent.objects.get(object_id="15")
    assert standalone.verify_event(bundle_of(kept, "default"))["object_id"] == "15"
    newest = AuditCheckpoint.objects.latest("size")
    assert standalone.verify_growth(growth_of("default", before.size, newest.size)) == (20, 21)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 7, 11])
def test_what_a_pruned_prefix_leaves_is_proved_wherever_the_checkpoints_lie(batch_size: int) -> None:
    """Subtrees that are in no checkpoint begin with leaves that are gone."""
    for model in (AuditLeaf, AuditCheckpoint):
        model.objects.all().delete()
    seal("default", batch_size=batch_size)
    prune("--older-than", "30d")
    left = AuditLeaf.objects.earliest("index").index
    assert left == 11 // batch_size * batch_size
    for event in AuditEvent.objects.all():
        assert standalone.verify_event(bundle_of(event, "default"))["id"] == event.pk
    newest = AuditCheckpoint.objects.latest("size").size
    for size in AuditCheckpoint.objects.filter(size__gte=left).values_list("size", flat=True):
        assert standalone.verify_growth(growth_of("default", size, newest)) == (size, newest)


def test_scattered_events_leave_their_leaves_as_stubs() -> None:
    AuditEvent.objects.filter(object_id__in=["3", "4", "9", "19"]).prune()
    seal("default")
    assert verified() == ([], 4)
    assert AuditLeaf.objects.count() == 21
    assert json.loads(AuditPrune.objects.get().ranges) == [[3, 5], [9, 10], [19, 20]]
    kept = AuditEvent.objects.get(object_id="5")
    assert standalone.verify_event(bundle_of(kept, "default"))["object_id"] == "5"


def test_pruning_in_several_runs_and_batches_stays_verifiable() -> None:
    AuditEvent.objects.filter(object_id__in=["3", "4", "9", "19"]).prune()
    prune("--older-than", "33d", "--batch-size", "2")
    assert verified()[0] == []
    prune("--older-than", "22d", "--batch-size", "3")
    assert verified() == ([], 20)
    prune("--older-than", "1d")
    assert verified() == ([], 20)


def test_all_events_of_a_log_may_be_pruned() -> None:
    AuditEvent.objects.all().prune()
    prune("--older-than", "1d")
    assert verified() == ([], 20)
    make_event(recorded_at=timezone.now())
    seal("default")
    assert verified() == ([], 20)


def test_an_event_that_is_not_sealed_is_sealed_before_it_is_pruned() -> None:
    make_event(recorded_at=timezone.now() - dt.timedelta(days=30), object_id="late", source="import")
    assert AuditEvent.objects.filter(object_id="late").prune() == 1
    assert verified() == ([], 1)


def test_what_says_where_events_went_is_not_pruned() -> None:
    AuditEvent.objects.filter(object_id="3").prune()
    assert AuditEvent.objects.filter(event_type="events_pruned").prune() == 0
    assert verified() == ([], 1)


def test_a_prune_whose_record_is_gone_is_tampering() -> None:
    AuditEvent.objects.filter(object_id__in=["3", "4"]).prune()
    seal("default")
    AuditPrune.objects.all().delete()
    assert verified()[0] == ["deleted", "deleted"]


@pytest.mark.parametrize("pruned", [["3"], ["5"], ["3", "5"], ["3", "6"], ["3", "6", "9"], ["0", "1", "2", "3"]])
def test_events_that_are_deleted_beside_pruned_ones_are_named(pruned: list[str]) -> None:
    AuditEvent.objects.filter(object_id__in=pruned).prune()
    gone = AuditEvent.objects.filter(object_id__in={"4", "5", "7"} - set(pruned))
    uids = dict(gone.values_list("object_id", "uid"))
    with connection.cursor() as cursor:
        for pk in list(gone.values_list("id", flat=True)):
            cursor.execute(f"DELETE FROM {AuditEvent._meta.db_table} WHERE id = %s", [pk])
    verifier = Verifier("default")
    named = [(finding.kind, finding.event) for finding in verifier.findings()]
    assert named == [("deleted", str(uids[number])) for number in sorted(uids)]
    assert verifier.verdict.pruned == len(pruned)


def test_a_record_that_claims_more_than_was_pruned_is_tampering() -> None:
    AuditEvent.objects.filter(object_id__in=["3", "4"]).prune()
    seal("default")
    uid = AuditLeaf._meta.get_field("event").get_db_prep_value(AuditLeaf.objects.get(index=7).event, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {AuditEvent._meta.db_table} WHERE uid = %s", [uid])
    AuditPrune.objects.update(ranges="[[3,8]]")
    assert sorted(verified()[0]) == ["deleted", "deleted", "deleted", "prune"]


def test_a_beginning_that_was_cut_off_without_a_record_is_tampering() -> None:
    for event in AuditLeaf.objects.filter(index__lt=8).values_list("event", flat=True):
        uid = AuditLeaf._meta.get_field("event").get_db_prep_value(event, connection)
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {AuditEvent._meta.db_table} WHERE uid = %s", [uid])
    AuditLeaf.objects.filter(index__lt=8).delete()
    assert verified()[0] == ["deleted"]
    AuditLeaf.objects.filter(index=8).delete()
    assert "deleted" in verified()[0]


def test_nothing_changes_where_nothing_was_ever_sealed() -> None:
    for model in (AuditLeaf, AuditCheckpoint):
        model.objects.all().delete()
    assert prune("--older-than", "30d") == "11 events pruned.\n"
    assert not AuditPrune.objects.exists()
    assert not AuditCheckpoint.objects.exists()
    assert "leaves_sha256" not in AuditEvent.objects.get(event_type="events_pruned").data


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def delete_with_forged_record(index: int, **values: object) -> None:
    """Delete an event by SQL, and write what would explain that."""
    event = AuditLeaf.objects.get(index=index).event
    sql(
        f"DELETE FROM {AuditEvent._meta.db_table} WHERE uid = %s",
        AuditLeaf._meta.get_field("event").get_db_prep_value(event, connection),
    )
    ranges = f"[[{index},{index + 1}]]"
    record = make_event(
        **{"event_type": "events_pruned", "recorded_at": timezone.now(), "data": described(ranges), **values}
    )
    AuditPrune.objects.create(event=record.uid, ranges=ranges)


def test_a_prune_seals_its_record_at_once() -> None:
    AuditEvent.objects.filter(object_id="3").prune()
    record = AuditEvent.objects.get(event_type="events_pruned")
    assert AuditLeaf.objects.filter(event=record.uid).exists()


def test_a_record_that_is_not_sealed_yet_is_counted() -> None:
    delete_with_forged_record(7)
    verifier = Verifier("default")
    assert list(verifier.findings()) == []
    assert (verifier.verdict.pruned, verifier.verdict.pending_records) == (1, 1)


@pytest.mark.parametrize(("ahead", "found"), [(dt.timedelta(0), []), (dt.timedelta(minutes=5), ["prune", "deleted"])])
def test_a_record_of_the_future_explains_nothing(ahead: dt.timedelta, found: list[str]) -> None:
    """Somebody keeps it from being sealed by changing where the sealer looks, and from being late by its time."""
    delete_with_forged_record(7, recorded_at=timezone.now() + ahead)
    checkpoint = AuditCheckpoint.objects.latest("size")
    horizon = {**checkpoint.horizon, "low": -(10**12), "high": 10**12}
    AuditCheckpoint.objects.filter(size=checkpoint.size).update(horizon=horizon)
    assert seal("default").sealed == 0
    assert verified()[0] == found


def test_events_of_the_future_that_are_not_sealed_are_late() -> None:
    for days, is_late in ((0, False), (2, True)):
        make_event(recorded_at=timezone.now() + dt.timedelta(days=days))
        verifier = Verifier("default")
        assert list(verifier.findings()) == []
        assert verifier.verdict.is_late is is_late


def test_a_record_that_was_never_sealed_explains_nothing() -> None:
    delete_with_forged_record(7, recorded_at=timezone.now() - dt.timedelta(minutes=5))
    assert sorted(verified()[0]) == ["deleted", "prune"]


def test_a_record_that_was_changed_after_it_was_sealed_explains_nothing() -> None:
    AuditEvent.objects.filter(object_id="3").prune()
    sql(
        f"DELETE FROM {AuditEvent._meta.db_table} WHERE uid = %s",
        AuditLeaf._meta.get_field("event").get_db_prep_value(AuditLeaf.objects.get(index=7).event, connection),
    )
    ranges = "[[3,8]]"
    sql(
        f"UPDATE {AuditEvent._meta.db_table} SET data = %s WHERE event_type = 'events_pruned'",
        json.dumps(described(ranges)),
    )
    AuditPrune.objects.update(ranges=ranges)
    kinds = verified()[0]
    assert {"edited", "prune", "deleted"} == set(kinds)


@pytest.mark.parametrize("ranges", ["", "{}", "[[1]]", '[["a","b"]]', "[1,2]"])
def test_ranges_that_are_none_are_tampering(ranges: str) -> None:
    AuditEvent.objects.filter(object_id="3").prune()
    AuditPrune.objects.update(ranges=ranges)
    assert sorted(verified()[0]) == ["deleted", "prune"]
