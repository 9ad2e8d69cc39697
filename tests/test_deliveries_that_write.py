"""What waking and delivering write themselves: it sets off no chain of notifications without end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.dispatch import receiver
from django_tasks_db.models import DBTaskResult

from django_signal_audit.context.scopes import MAX_GENERATION
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.dispatchers import TasksDispatcher, WorkerDispatcher
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.signals import event_recorded, notification_sent

from .app.models import Category, Tag
from .conftest import Audit, events

HERE = "tests.test_deliveries_that_write"
CALLABLE = "django_signal_audit.channels.callable.CallableChannel"
TASKS = "django_signal_audit.dispatchers.TasksDispatcher"
WORKER = "django_signal_audit.dispatchers.WorkerDispatcher"

committing = pytest.mark.django_db(transaction=True)


def calling(target: str) -> dict[str, Any]:
    return {"BACKEND": CALLABLE, "OPTIONS": {"target": f"{HERE}.{target}", "check_permission": False}}


CHANNELS = {name: calling(name) for name in ("take", "save_again", "save_tag", "save_tags", "save_category")}


def take(message: Any) -> None: ...


def save_again(message: Any) -> None:
    """Change what the message is about, as a counter of views does."""
    tag = Tag.objects.get(pk=message.event.object_id)
    tag.name += "!"
    tag.save()


def save_tag(message: Any) -> None:
    Tag.objects.create(name="made by a delivery")


def save_tags(message: Any) -> None:
    for name in "ab":
        Tag.objects.create(name=name)


def save_category(message: Any) -> None:
    Category.objects.create(name="made by a delivery")


class SavingDispatcher(WorkerDispatcher):
    """Keeps a list of its wakes in a table of the project."""

    def wake(self, using: str, ids: Any) -> None:
        Category.objects.create(name=f"wake of {len(ids)}")


class SavingQueue(TasksDispatcher):
    """Enqueues by a table that a rule names."""

    def enqueue(self, using: str) -> None:
        Category.objects.create(name="task")
        super().enqueue(using)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back the signal handlers that the worker leaves behind."""
    import signal

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def work() -> None:
    call_command("db_worker", batch=True, startup_delay=False, reload=False, verbosity=0)


@committing
@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("keys", [{}, {"EXCLUDE_MODELS": []}])
def test_a_rule_for_everything_does_not_hear_of_its_own_tasks(audit: Audit, keys: dict[str, Any]) -> None:
    audit({"name": "all", "model": "*", "notify": ["take"]}, CHANNELS=CHANNELS, DISPATCHER=TASKS, **keys)
    Tag.objects.create(name="a")
    assert DBTaskResult.objects.count() == 1
    work()
    assert [(event.model, event.event_type) for event in events()] == [("app.tag", "create")]
    assert [row.status for row in Notification.objects.all()] == ["sent"]
    assert DBTaskResult.objects.count() == 1


@committing
@pytest.mark.parametrize("dispatcher", ["SavingDispatcher", "SavingQueue"])
def test_what_a_dispatcher_writes_to_wake_somebody_is_left_out(audit: Audit, dispatcher: str) -> None:
    rule = {"name": "app", "model": "app.*", "notify": ["take"]}
    audit(rule, CHANNELS=CHANNELS, DISPATCHER=f"{HERE}.{dispatcher}")
    Tag.objects.create(name="a")
    assert Category.objects.count() == 1
    assert [event.model for event in events()] == ["app.tag"]


@committing
@pytest.mark.parametrize("dispatcher", [WORKER, "django_signal_audit.dispatchers.OnCommitDispatcher"])
def test_a_delivery_that_sets_off_itself_comes_to_an_end(audit: Audit, dispatcher: str) -> None:
    audit({"name": "tags", "model": "app.Tag", "notify": ["save_again"]}, CHANNELS=CHANNELS, DISPATCHER=dispatcher)
    tag = Tag.objects.create(name="a")
    deliver()
    deliver()
    # Each write is recorded all the same, the last one too.
    tag.refresh_from_db()
    assert tag.name == "a" + "!" * (MAX_GENERATION + 1)
    assert len(events()) == MAX_GENERATION + 2
    statuses = [row.status for row in Notification.objects.order_by("id")]
    assert statuses == ["sent"] * (MAX_GENERATION + 1) + ["skipped"]
    assert "no end" in Notification.objects.get(status="skipped").last_error


@committing
def test_two_deliveries_that_set_off_each_other_come_to_an_end(audit: Audit) -> None:
    rules = [
        {"name": "tags", "model": "app.Tag", "notify": ["save_category"]},
        {"name": "categories", "model": "app.Category", "notify": ["save_tag"]},
    ]
    audit(*rules, CHANNELS=CHANNELS, DISPATCHER=WORKER)
    Tag.objects.create(name="a")
    deliver()
    assert AuditEvent.objects.count() == MAX_GENERATION + 2
    assert Notification.objects.get(status="skipped")
    assert deliver().attempted == 0


@committing
def test_a_delivery_that_sets_off_itself_twice_does_not_double_the_messages_for_ever(audit: Audit) -> None:
    audit({"name": "tags", "model": "app.Tag", "notify": ["save_tags"]}, CHANNELS=CHANNELS, DISPATCHER=WORKER)
    Tag.objects.create(name="first")
    while deliver().attempted:
        pass
    statuses = Counter(Notification.objects.values_list("status", flat=True))
    # Doubled ten times they would be 2047 that are sent, and 2048 that are skipped.
    assert statuses == {"sent": 71, "skipped": 72}
    assert Tag.objects.count() == len(events()) == 1 + 2 * statuses["sent"]


@committing
def test_a_delivery_may_set_off_many_that_set_off_many(audit: Audit) -> None:
    rules = [
        {"name": "first", "model": "app.Tag", "when": {"name": {"to": "first"}}, "notify": ["save_tags"]},
        {"name": "a", "model": "app.Tag", "when": {"name": {"to": "a"}}, "notify": ["save_category"]},
        {"name": "b", "model": "app.Tag", "when": {"name": {"to": "b"}}, "notify": ["save_category"]},
        {"name": "categories", "model": "app.Category", "notify": ["take"]},
    ]
    audit(*rules, CHANNELS=CHANNELS, DISPATCHER=WORKER)
    Tag.objects.create(name="first")
    deliver()
    assert [row.status for row in Notification.objects.all()] == ["sent"] * 5


@committing
def test_a_short_chain_is_delivered_to_its_end(audit: Audit) -> None:
    rules = [
        {"name": "tags", "model": "app.Tag", "notify": ["save_category"]},
        {"name": "categories", "model": "app.Category", "notify": ["take"]},
    ]
    audit(*rules, CHANNELS=CHANNELS, DISPATCHER=WORKER)
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    deliver()
    assert [row.status for row in Notification.objects.all()] == ["sent"] * 4


@committing
def test_a_receiver_of_sent_messages_that_writes_comes_to_an_end(audit: Audit) -> None:
    audit({"name": "tags", "model": "app.Tag", "notify": ["take"]}, CHANNELS=CHANNELS, DISPATCHER=WORKER)

    @receiver(notification_sent)
    def note(**_: Any) -> None:
        Tag.objects.create(name="noted")

    try:
        Tag.objects.create(name="a")
        deliver()
    finally:
        notification_sent.disconnect(note)
    assert len(events()) == MAX_GENERATION + 2
    assert Notification.objects.get(status="skipped")


@pytest.mark.django_db
def test_a_receiver_of_events_that_writes_what_is_audited_comes_to_an_end(
    audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    audit({"name": "tags", "model": "app.Tag"})

    @receiver(event_recorded)
    def note(event: AuditEvent, **_: Any) -> None:
        Tag.objects.create(name=f"about {event.object_repr}")

    try:
        Tag.objects.create(name="a")
    finally:
        event_recorded.disconnect(note)
    names = [event.object_repr for event in events()]
    assert names[:2] == ["a", "about a"]
    assert len(names) == 4
    assert Tag.objects.count() == 4
    assert "is not sent to receivers" in caplog.text


@pytest.mark.django_db
def test_a_receiver_of_events_that_writes_another_model_is_told_of_all(audit: Audit) -> None:
    audit({"name": "tags", "model": "app.Tag"}, {"name": "categories", "model": "app.Category"})
    told: list[str] = []

    @receiver(event_recorded)
    def note(event: AuditEvent, **_: Any) -> None:
        told.append(event.model)
        if event.model == "app.tag":
            Category.objects.create(name="noted")

    try:
        Tag.objects.create(name="a")
        Tag.objects.create(name="b")
    finally:
        event_recorded.disconnect(note)
    assert told == ["app.tag", "app.category"] * 2
