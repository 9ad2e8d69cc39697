from __future__ import annotations

from typing import ClassVar

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings
from django.utils.module_loading import import_string
from django_tasks_db.models import DBTaskResult

from django_signal_audit.checks import check_plugins
from django_signal_audit.dispatchers import TasksDispatcher
from django_signal_audit.models import Notification

from .notices import audit_settings, make_notifications, receiving, wake
from .processes import stage

DOTTED = "django_signal_audit.dispatchers.TasksDispatcher"
TASK = "django_signal_audit.dispatchers.tasks.deliver_notifications"

committing = pytest.mark.django_db(transaction=True)


class Small(TasksDispatcher):
    limit: ClassVar[int] = 2


class Misplaced(TasksDispatcher):
    backend: ClassVar[str] = "audit"


class Misqueued(TasksDispatcher):
    queue_name: ClassVar[str] = "notifications"


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = {**audit_settings(), "DISPATCHER": DOTTED}
    with receiving() as messages:
        yield messages


def work():
    """Run what is enqueued by the backend's own worker."""
    call_command("db_worker", batch=True, startup_delay=False, reload=False, verbosity=0)


@pytest.fixture
def handlers():
    """Put back the signal handlers that the worker leaves behind."""
    import signal

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@committing
class TestWake:
    def test_one_task_per_commit_that_says_where_to_look_and_nothing_of_what_is_there(self):
        with transaction.atomic():
            for _ in range(3):
                wake(*make_notifications(2))
            assert not DBTaskResult.objects.exists()
        task = DBTaskResult.objects.get()
        assert task.task_path == TASK
        assert task.args_kwargs == {"args": ["default", 100], "kwargs": {}}

    def test_each_commit_has_one_of_its_own(self):
        for _ in range(2):
            with transaction.atomic():
                wake(*make_notifications(1))
        wake(*make_notifications(1))
        assert DBTaskResult.objects.count() == 3

    def test_none_for_what_was_rolled_back(self):
        with transaction.atomic():
            wake(*make_notifications(1))
            transaction.set_rollback(True)
        assert not DBTaskResult.objects.exists()

    def test_a_savepoint_that_is_rolled_back_takes_no_other_wake_along(self):
        with transaction.atomic():
            with transaction.atomic():
                wake(*make_notifications(1))
                transaction.set_rollback(True)
            wake(*make_notifications(1))
        assert DBTaskResult.objects.count() == 1

    def test_a_task_that_cannot_be_enqueued_is_logged_and_loses_nothing(self, monkeypatch, caplog):
        def fail(*args):
            raise ConnectionError("no route")

        monkeypatch.setattr("django_tasks_db.DatabaseBackend.enqueue", fail)
        with transaction.atomic():
            wake(*make_notifications(1))
        assert "ConnectionError: no route" in caplog.text
        assert "wait for the next sweep" in caplog.text
        assert Notification.objects.get().status == "pending"


@committing
@pytest.mark.usefixtures("handlers")
class TestWork:
    def test_the_worker_of_the_backend_delivers(self, messages):
        with transaction.atomic():
            wake(*make_notifications(3))
        assert messages == []
        work()
        assert len(messages) == 3
        assert set(Notification.objects.values_list("status", flat=True)) == {"sent"}
        assert DBTaskResult.objects.get().return_value["sent"] == 3

    def test_a_message_that_fails_is_no_task_that_fails(self):
        with transaction.atomic():
            wake(*make_notifications(1, "boom"))
        work()
        assert DBTaskResult.objects.get().status == "SUCCESSFUL"
        row = Notification.objects.get()
        assert (row.status, row.attempts) == ("failed", 1)

    def test_what_is_more_than_the_limit_is_for_further_tasks(self, messages, settings):
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "DISPATCHER": f"{__name__}.Small"}
        with transaction.atomic():
            wake(*make_notifications(7))
        work()
        assert len(messages) == 7
        assert all(task.args_kwargs["args"] == ["default", 2] for task in DBTaskResult.objects.all())
        assert 4 <= DBTaskResult.objects.count() <= 5

    def test_a_task_that_cannot_even_claim_enqueues_no_other(self, monkeypatch, settings):
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "DISPATCHER": f"{__name__}.Small"}
        with transaction.atomic():
            wake(*make_notifications(7))

        def fail(*args, **kwargs):
            raise RuntimeError("no claim")

        monkeypatch.setattr("django_signal_audit.delivery.outbox.claim", fail)
        work()
        assert DBTaskResult.objects.get().status == "FAILED"

    def test_the_task_is_found_by_its_path_whatever_dispatcher_is_in_force(self, settings):
        settings.SIGNAL_AUDIT = {}
        task = import_string(TASK)
        assert task.module_path == TASK
        assert set(task.call().values()) == {0}


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_several_workers_share_what_many_commits_wrote(tmp_path):
    count = stage.choose(15, 1000)
    report = stage.run(
        "queues",
        databases=stage.databases(tmp_path),
        audit={**stage.EVERYTHING, "DISPATCHER": DOTTED},
        settings={"TASKS": {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}},
        what="tasks",
        writers=2,
        count=count,
    )
    assert report["statuses"] == {"sent": 2 * count}
    assert report["attempts"] == 2 * count
    # One task for each commit, and one more from each that found the workers far behind.
    further = sum(report["tasks"].values()) - 2 * count
    assert 0 <= further <= report["tasks"].get("SUCCESSFUL", 0) + report["tasks"].get("RUNNING", 0)
    assert "FAILED" not in report["tasks"]


def import_string_or_none(dotted):
    try:
        return import_string(dotted)
    except ImportError:
        return None


CORE = "django.tasks" if import_string_or_none("django.tasks.task") else "django_tasks"


def found_by_check(**settings):
    with override_settings(**settings):
        return check_plugins()


class TestCheck:
    def test_a_backend_with_a_worker_is_fine(self):
        assert found_by_check() == []

    @pytest.mark.parametrize(
        ("backend", "what"), [("immediate.ImmediateBackend", "at once"), ("dummy.DummyBackend", "runs no task")]
    )
    def test_one_that_runs_inline_or_never_is_a_warning(self, backend, what):
        [message] = found_by_check(TASKS={"default": {"BACKEND": f"{CORE}.backends.{backend}"}})
        assert message.id == "django_signal_audit.W004"
        assert message.msg.startswith('TASKS["default"] is a ')
        assert what in message.msg

    @pytest.mark.parametrize(("name", "what"), [("Misplaced", "'audit'"), ("Misqueued", "'notifications'")])
    def test_a_backend_or_queue_that_there_is_not_is_an_error(self, name, what, settings):
        settings.SIGNAL_AUDIT = {"DISPATCHER": f"{__name__}.{name}"}
        [message] = found_by_check()
        assert message.id == "django_signal_audit.E022"
        assert what in message.msg
        assert name in message.hint
