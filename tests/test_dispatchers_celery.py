from __future__ import annotations

import logging
import socket
import subprocess
import sys
from typing import Any, ClassVar

import pytest
from django.db import transaction

from django_signal_audit.dispatchers import CeleryDispatcher, celery
from django_signal_audit.dispatchers.celery import deliver_notifications
from django_signal_audit.models import Notification

from .brokers import URLS, broker, memory_app, published
from .databases import URL
from .notices import audit_settings, make_notifications, receiving, wake
from .processes import stage

DOTTED = "django_signal_audit.dispatchers.CeleryDispatcher"

# What a server makes of several workers, and what a broker does while it is away, are two things.
BROKERS = list(URLS) if stage.THOROUGH or URL.startswith("sqlite") else ["redis"]
committing = pytest.mark.django_db(transaction=True)


class Other(CeleryDispatcher):
    limit: ClassVar[int] = 2
    options: ClassVar[dict[str, Any]] = {"queue": "notifications"}


@pytest.fixture
def app():
    with memory_app() as app:
        yield app


@pytest.fixture(autouse=True)
def messages(settings, app):
    settings.SIGNAL_AUDIT = {**audit_settings(), "DISPATCHER": DOTTED}
    with receiving() as messages:
        yield messages


@committing
class TestWake:
    def test_one_task_per_commit_that_says_where_to_look_and_nothing_of_what_is_there(self, app):
        with transaction.atomic():
            for _ in range(3):
                wake(*make_notifications(2))
            assert published(app) == []
        [task] = published(app)
        assert task.headers["task"] == "django_signal_audit.deliver"
        assert task.payload[:2] == [["default", 100], {}]

    def test_none_for_what_was_rolled_back(self, app):
        with transaction.atomic():
            wake(*make_notifications(1))
            transaction.set_rollback(True)
        assert published(app) == []

    def test_a_subclass_names_a_queue_and_a_limit(self, app, settings):
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "DISPATCHER": f"{__name__}.Other"}
        wake(*make_notifications(1))
        [task] = published(app, "notifications")
        assert task.payload[0] == ["default", 2]


@committing
class TestTask:
    def test_the_task_delivers_what_is_due(self, messages):
        make_notifications(3)
        assert deliver_notifications()["sent"] == 3
        assert len(messages) == 3

    def test_what_is_more_than_the_limit_is_for_further_tasks(self, app, settings, messages):
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "DISPATCHER": f"{__name__}.Other"}
        make_notifications(5)
        tasks = 1
        deliver_notifications("default", 2)
        while waiting := published(app, "notifications"):
            for task in waiting:
                tasks += 1
                deliver_notifications(*task.payload[0])
        assert len(messages) == 5
        assert 3 <= tasks <= 4


class TestBrokerAway:
    @pytest.fixture
    def closed(self, app):
        """Let the app's broker be where nobody listens."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        app.conf.broker_url = f"amqp://guest:guest@127.0.0.1:{port}//"
        return app

    @committing
    def test_the_commit_goes_through_and_the_fault_is_logged(self, closed, caplog):
        with transaction.atomic():
            wake(*make_notifications(1))
        assert "No task could be enqueued" in caplog.text
        assert "refused" in caplog.text
        assert Notification.objects.get().status == "pending"

    @pytest.mark.usefixtures("closed")
    def test_it_is_not_asked_again_for_a_while(self, caplog, monkeypatch):
        dispatcher = CeleryDispatcher()
        now = [100.0]
        monkeypatch.setattr(celery, "monotonic", lambda: now[0])
        for seconds, faults in ((0, 1), (4, 1), (2, 2)):
            now[0] += seconds
            dispatcher.try_to_enqueue("default")
            assert [record.levelno for record in caplog.records] == [logging.ERROR] * faults


@pytest.mark.slow
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("name", BROKERS)
def test_workers_share_the_work_and_a_broker_that_was_away_costs_nothing_but_time(name, tmp_path):
    count = stage.choose(30, 1000)
    report = stage.run(
        "queues",
        databases=stage.databases(tmp_path),
        audit={**stage.EVERYTHING, "DISPATCHER": DOTTED},
        what="celery",
        broker=broker(name),
        writers=2,
        count=count,
        folder=str(tmp_path),
    )
    assert_carried(report["carried"])
    before, during, after = report["before"], report["during"], report["after"]
    assert before == {"written": 2 * count, "statuses": {"sent": 2 * count}, "attempts": 2 * count}
    assert during["statuses"]["pending"] >= count
    assert report["longest"] < 10
    # A task whose acknowledgement was lost with the broker runs again, and may write more up to the end.
    assert after["statuses"].keys() <= {"sent", "pending"}
    assert after["attempts"] == after["statuses"]["sent"] >= during["written"]


def assert_carried(events):
    """Fail unless both events, of a task and of one that it enqueued, say who enqueued the first, and why."""
    assert [event["context"].pop("task") for event in events] == [
        "tests.app.jobs.rename_twice",
        "tests.app.jobs.rename",
    ]
    for event in events:
        assert event["context"]["extra"].pop("api_key")["$masked"].startswith("hmac-sha256:")
        assert event == {
            "actor_id": "ada",
            "actor_repr": "ada",
            "context": {"reason": "Spelling", "extra": {"ticket": 7}},
            "correlation_id": True,
        }


def test_without_celery_the_check_says_what_to_install():
    script = """
import sys
sys.modules["celery"] = None
from tests.processes.stage import configure
configure({}, {"DISPATCHER": "django_signal_audit.dispatchers.CeleryDispatcher"})
from django_signal_audit.checks import check_plugins
[problem] = check_plugins()
print(problem.id, problem.msg)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=stage.ROOT, capture_output=True, text=True, check=True)
    assert "django_signal_audit.E022" in done.stdout
    assert 'CeleryDispatcher needs Celery: pip install "django-signal-audit[celery]"' in done.stdout
