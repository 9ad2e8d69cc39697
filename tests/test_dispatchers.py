from __future__ import annotations

import logging
import time

import pytest
from django.db import connections, transaction
from django.test import TestCase, override_settings
from django.utils.module_loading import import_string

from django_signal_audit.dispatchers import (
    OnCommitDispatcher,
    WorkerDispatcher,
    get_dispatcher,
    load_dispatcher,
    on_commit,
    replaced_dispatcher,
)
from django_signal_audit.dispatchers.base import Dispatcher
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import Notification

from .notices import HERE, audit_settings, make_notifications, receiving

committing = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = audit_settings()
    with receiving() as messages:
        yield messages


def wake(*rows):
    OnCommitDispatcher().wake("default", [row.pk for row in rows])


@committing
class TestOnCommit:
    def test_it_delivers_after_the_commit_and_not_before(self, messages):
        with transaction.atomic():
            wake(*make_notifications(2))
            assert messages == []
        assert len(messages) == 2
        assert set(Notification.objects.values_list("status", flat=True)) == {"sent"}

    def test_only_what_the_commit_wrote(self, messages):
        make_notifications(1)
        with transaction.atomic():
            wake(*make_notifications(1))
        assert len(messages) == 1
        assert Notification.objects.filter(status="pending").count() == 1

    def test_a_rollback_sends_nothing(self, messages):
        with transaction.atomic():
            wake(*make_notifications(1))
            transaction.set_rollback(True)
        with transaction.atomic():
            with transaction.atomic():
                wake(*make_notifications(1))
                transaction.set_rollback(True)
            wake(*make_notifications(1))
        assert len(messages) == 1

    def test_at_most_twenty_per_commit_however_many_calls_registered(self, messages):
        with transaction.atomic():
            for _ in range(5):
                with transaction.atomic():
                    wake(*make_notifications(7))
        assert len(messages) == 20
        assert Notification.objects.filter(status="pending", attempts=0).count() == 15

    def test_what_a_transaction_writes_is_delivered_together(self, messages, monkeypatch):
        deliveries = []
        monkeypatch.setattr(on_commit, "deliver", lambda using, ids, **how: deliveries.append(list(ids)))
        rows = make_notifications(4)
        with transaction.atomic():
            wake(rows[0])
            with transaction.atomic():
                wake(rows[1])
                transaction.set_rollback(True)
            wake(rows[2])
        wake(rows[3])
        assert [[pk for pk in ids if pk != rows[1].pk] for ids in deliveries] == [
            [rows[0].pk, rows[2].pk],
            [rows[3].pk],
        ]

    def test_what_rolled_back_is_not_asked_for_by_the_next_transaction(self, messages, monkeypatch):
        deliveries = []
        monkeypatch.setattr(on_commit, "deliver", lambda using, ids, **how: deliveries.append(list(ids)))
        rows = make_notifications(2)
        with transaction.atomic():
            wake(rows[0])
            transaction.set_rollback(True)
        with transaction.atomic():
            transaction.on_commit(lambda: None)
            wake(rows[1])
        assert deliveries == [[rows[1].pk]]

    def test_the_next_commit_has_a_budget_of_its_own(self, messages):
        for _ in range(2):
            with transaction.atomic():
                wake(*make_notifications(25))
        assert len(messages) == 40

    def test_a_rolled_back_savepoint_neither_spends_nor_starts_the_budget(self, messages):
        with transaction.atomic():
            with transaction.atomic():
                wake(*make_notifications(20))
                transaction.set_rollback(True)
            wake(*make_notifications(20))
        assert len(messages) == 20

    def test_two_seconds_per_commit_in_all(self, messages, monkeypatch):
        real, start = time.monotonic, time.monotonic()
        # Each message takes 0.9 s, and what else is done hardly any time.
        monkeypatch.setattr(time, "monotonic", lambda: start + (real() - start) / 1000 + 0.9 * len(messages))
        with transaction.atomic():
            wake(*make_notifications(2))
            wake(*make_notifications(2))
        assert len(messages) == 3
        assert Notification.objects.filter(status="pending", attempts=0).count() == 1

    def test_what_fails_is_left_to_a_worker_and_hurts_nobody(self, messages):
        with transaction.atomic():
            wake(*make_notifications(1, "boom"), *make_notifications(1))
        assert len(messages) == 1
        assert Notification.objects.get(channel="boom").status == "failed"

    def test_an_error_of_the_delivery_itself_does_not_reach_the_writer(self, monkeypatch, caplog):
        def fail(*args, **kwargs):
            raise RuntimeError("delivery")

        monkeypatch.setattr(on_commit, "deliver", fail)
        with transaction.atomic():
            wake(*make_notifications(1))
        assert "RuntimeError: delivery" in caplog.text

    def test_a_reaction_that_sets_off_itself_comes_to_an_end(self, messages, monkeypatch):
        def again(message):
            messages.append(message)
            with transaction.atomic():
                wake(*make_notifications(1))

        monkeypatch.setattr(f"{HERE}.take", again)
        with transaction.atomic():
            wake(*make_notifications(3))
        assert len(messages) == 20

    def test_without_autocommit_and_atomic_it_is_left_to_a_worker(self, messages):
        connection = connections["default"]
        connection.set_autocommit(False)
        try:
            wake(*make_notifications(1))
            connection.commit()
        finally:
            connection.set_autocommit(True)
        assert messages == []
        assert Notification.objects.get().status == "pending"

    def test_the_worker_dispatcher_leaves_all_of_it(self, messages):
        with transaction.atomic():
            WorkerDispatcher().wake("default", [row.pk for row in make_notifications(1)])
        assert messages == []
        assert Notification.objects.get().status == "pending"


class TestInTestCase(TestCase):
    def test_commit_hooks_that_are_run_by_hand_deliver(self):
        with self.captureOnCommitCallbacks(execute=True), override_settings(SIGNAL_AUDIT=audit_settings()):
            wake(*make_notifications(2))
        assert set(Notification.objects.values_list("status", flat=True)) == {"sent"}

    def test_hooks_that_are_not_run_by_hand_deliver_nothing(self):
        with override_settings(SIGNAL_AUDIT=audit_settings()):
            wake(*make_notifications(1))
            with self.captureOnCommitCallbacks(execute=True):
                wake(*make_notifications(1))
                wake(*make_notifications(1))
        assert list(Notification.objects.order_by("pk").values_list("status", flat=True)) == ["pending", "sent", "sent"]


class Own(Dispatcher):
    def wake(self, using, ids):
        """Do nothing."""


class Unmakable(Own):
    def __init__(self):
        raise RuntimeError("no")


class TestRegistry:
    def test_the_default_and_the_dotted_paths(self):
        assert type(get_dispatcher()) is OnCommitDispatcher
        assert get_dispatcher() is get_dispatcher()
        assert import_string("django_signal_audit.dispatchers.WorkerDispatcher") is WorkerDispatcher
        assert get_dispatcher().check() == []

    def test_a_setting_takes_effect_at_once_and_is_undone(self):
        with override_settings(SIGNAL_AUDIT={"DISPATCHER": f"{__name__}.Own"}):
            assert type(get_dispatcher()) is Own
        assert type(get_dispatcher()) is OnCommitDispatcher

    @pytest.mark.parametrize(
        ("dotted", "expected"),
        [
            ("no.such.Dispatcher", "cannot import 'no.such.Dispatcher'"),
            ("tests.notices.take", "isn't a subclass of"),
            (f"{__name__}.Unmakable", "can't create Unmakable: RuntimeError: no"),
        ],
    )
    def test_a_broken_one_is_an_error_and_does_not_break_the_write(self, dotted, expected, caplog):
        with pytest.raises(InvalidSettings) as error:
            load_dispatcher(dotted)
        assert 'SIGNAL_AUDIT["DISPATCHER"]' in str(error.value)
        assert expected in str(error.value)
        with override_settings(SIGNAL_AUDIT={"DISPATCHER": dotted}), caplog.at_level(logging.ERROR):
            assert type(get_dispatcher()) is WorkerDispatcher
        assert "wait for manage.py audit_deliver" in caplog.text

    def test_a_replacement_is_in_force_inside(self):
        own = Own()
        with replaced_dispatcher(own):
            assert get_dispatcher() is own
        assert type(get_dispatcher()) is OnCommitDispatcher
