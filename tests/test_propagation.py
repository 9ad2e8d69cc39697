from __future__ import annotations

import copy
import json
import pickle
import signal

import pytest
from celery import signals as celery_signals
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import RequestFactory
from django_tasks_db.models import DBTaskResult

from django_signal_audit import audit_context, audited_task
from django_signal_audit.context.propagation import task_scope
from django_signal_audit.context.scopes import NO_CONTEXT, context_scope, current_context
from django_signal_audit.events.values import mask

from .app import jobs, tasks
from .app.models import Tag
from .brokers import memory_app, published
from .conftest import events, last, run_async

CORE = tasks.rename_plainly.__class__.__module__.partition(".base")[0]
IMMEDIATE = {"default": {"BACKEND": f"{CORE}.backends.immediate.ImmediateBackend"}}


@pytest.fixture(autouse=True)
def rules(audit):
    audit()


@pytest.fixture
def tag():
    return Tag.objects.create(name="elm")


@pytest.fixture
def work():
    """Return a function that runs what is enqueued by the backend's own worker."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield lambda: call_command("db_worker", batch=True, startup_delay=False, reload=False, verbosity=0)
    for number, handler in before.items():
        signal.signal(number, handler)


def enqueue(task, *arguments):
    """Enqueue a task as somebody, and return the correlation id of that."""
    with audit_context(actor=User.objects.get_or_create(username="ada")[0], reason="Spelling", ticket=7, api_key="x"):
        task.enqueue(*arguments)
        return current_context().correlation_id


@pytest.mark.parametrize("wrong", [enqueue, jobs, type(tasks.rename_plainly), None])
def test_what_is_no_task_is_refused_with_where_the_decorator_belongs(wrong):
    with pytest.raises(TypeError, match=r"^audited_task\(\) takes a task of django\.tasks, not .*above @task"):
        audited_task(wrong)


@pytest.mark.django_db(transaction=True)
class TestDjangoTasks:
    def test_the_event_names_who_enqueued_the_task_and_the_task(self, tag, work):
        correlation_id = enqueue(tasks.rename, tag.pk, "ash")
        work()
        ada = User.objects.get()
        event = last()
        assert (event.actor_id, event.actor_repr) == (str(ada.pk), "ada")
        assert event.correlation_id == correlation_id
        assert event.context == {
            "command": "db_worker",
            "task": "tests.app.tasks.rename",
            "reason": "Spelling",
            "extra": {"ticket": 7, "api_key": mask(("context", event.correlation_id, "api_key"), "x")},
        }

    def test_the_function_gets_its_own_arguments_and_the_queue_no_secret(self, tag, work):
        enqueue(tasks.rename, tag.pk, "ash")
        [kept] = DBTaskResult.objects.values_list("args_kwargs", flat=True)
        assert kept["args"] == [tag.pk, "ash"]
        assert list(kept["kwargs"]) == ["audit_context"]
        assert '"x"' not in json.dumps(kept)
        work()
        assert DBTaskResult.objects.get().return_value == "ash"

    @pytest.mark.parametrize(("task", "name"), [(tasks.arename, "ash"), (tasks.rename_to_attempt, "attempt 1")])
    def test_async_functions_and_those_that_take_the_context_of_the_task(self, tag, work, task, name):
        enqueue(task, tag.pk, *([name] if task is tasks.arename else []))
        work()
        event = last()
        assert event.changes == {"name": ["elm", name]}
        assert (event.actor_repr, event.context["reason"]) == ("ada", "Spelling")

    def test_a_task_that_a_task_enqueues(self, tag, work):
        correlation_id = enqueue(tasks.rename_later, tag.pk, "ash")
        work()
        event = last()
        assert (event.actor_repr, event.correlation_id) == ("ada", correlation_id)
        assert event.context["task"] == "tests.app.tasks.rename"
        assert event.context["extra"]["api_key"] == mask(("context", event.correlation_id, "api_key"), "x")

    def test_each_task_of_nobody_is_an_action_of_its_own(self, tag, work):
        tasks.rename.enqueue(tag.pk, "ash")
        tasks.rename.enqueue(tag.pk, "oak")
        work()
        one, other = events(event_type="update")
        assert one.actor_id == ""
        assert one.correlation_id != other.correlation_id

    def test_enqueued_by_async_code_and_with_other_settings(self, tag, work):
        async def main():
            with audit_context(actor="ada"):
                await tasks.rename.using(priority=5).aenqueue(tag.pk, "ash")

        run_async(main())
        assert DBTaskResult.objects.get().priority == 5
        work()
        assert last().actor_repr == "ada"

    def test_a_task_without_the_decorator_goes_as_before(self, tag, work):
        enqueue(tasks.rename_plainly, tag.pk, "ash")
        assert DBTaskResult.objects.get().args_kwargs["kwargs"] == {}
        work()
        assert last().actor_repr == ""


@pytest.mark.django_db
class TestInline:
    def test_run_where_it_was_enqueued_it_keeps_the_request(self, tag, settings):
        settings.TASKS = IMMEDIATE
        request = RequestFactory().post("/rename/")
        request.user = User.objects.create_user("ada")
        with context_scope(request=request):
            tasks.rename.enqueue(tag.pk, "ash")
            assert current_context().task == ""
        event = last()
        assert event.actor_repr == "ada"
        assert (event.context["request"]["path"], event.context["task"]) == ("/rename/", "tests.app.tasks.rename")

    def test_called_by_hand_it_acts_for_the_caller(self, tag):
        with audit_context(actor="ada"):
            assert tasks.rename.call(tag.pk, "ash") == "ash"
        assert (last().actor_repr, last().context) == ("ada", {"task": "tests.app.tasks.rename"})

    def test_it_can_be_copied_and_pickled(self, tag):
        changed = tasks.rename.using(priority=3)
        for twin in (copy.deepcopy(changed), pickle.loads(pickle.dumps(changed))):
            assert twin == changed
            assert type(twin) is type(changed)


@pytest.fixture
def app():
    with memory_app() as app:
        yield app


def header(app):
    """Return the header of the one task that waits, None if it has none."""
    [message] = published(app)
    return message.headers.get("django_signal_audit")


class TestCelery:
    """What workers make of it is tested with real ones, in test_dispatchers_celery."""

    def test_the_header_of_a_task_carries_the_context(self, app):
        with audit_context(actor="ada", reason="Spelling", api_key="x"):
            jobs.rename.delay(1, "ash")
            sent = json.loads(header(app))
            assert sent == {
                "correlation_id": current_context().correlation_id,
                "actor": ["ada", "ada"],
                "reason": "Spelling",
                "extra": {"api_key": mask(("context", current_context().correlation_id, "api_key"), "x")},
            }

    def test_none_where_there_is_nothing_to_say(self, app):
        jobs.rename.delay(1, "ash")
        assert header(app) is None

    def test_none_for_the_delivery_which_is_of_what_anybody_did(self, app):
        from django_signal_audit.dispatchers import CeleryDispatcher

        with audit_context(actor="ada"):
            CeleryDispatcher().enqueue("default")
        assert header(app) is None

    def test_nothing_listens_without_rules(self, app, settings):
        settings.SIGNAL_AUDIT = {}
        with audit_context(actor="ada"):
            jobs.rename.delay(1, "ash")
        assert header(app) is None

    @pytest.mark.django_db
    @pytest.mark.usefixtures("app")
    def test_an_eager_task_runs_in_the_context_there_is(self, tag):
        with audit_context(actor="ada"):
            jobs.rename_twice.apply((tag.pk,))
            assert current_context().task == ""
        assert (last().actor_repr, last().context) == ("ada", {"task": "tests.app.jobs.rename_twice"})

    @pytest.mark.django_db
    @pytest.mark.usefixtures("app")
    def test_a_task_that_fails_leaves_no_context_behind(self, tag):
        jobs.rename_and_fail.apply((tag.pk,))
        assert last().context == {"task": "tests.app.jobs.rename_and_fail"}
        assert current_context() is NO_CONTEXT

    @pytest.mark.parametrize("text", ["{", "[1]", '"text"', 7])
    @pytest.mark.usefixtures("app")
    def test_a_header_that_is_none_of_ours_is_said_and_passed_by(self, text, caplog):
        task = jobs.rename
        task.push_request(id="1", is_eager=False, django_signal_audit=text)
        celery_signals.task_prerun.send(sender=task, task_id="1", task=task, args=(), kwargs={})
        assert current_context().task == "tests.app.jobs.rename"
        celery_signals.task_postrun.send(sender=task, task_id="1", task=task, args=(), kwargs={})
        task.pop_request()
        assert current_context() is NO_CONTEXT
        assert "cannot be read" in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize("correlation_id", ["x" * 500, "a\0b", "\ud800" * 40, 7, ["x"]], ids=repr)
def test_a_correlation_id_of_any_length_from_a_broker_is_recorded(correlation_id):
    with task_scope("jobs.tag", {"correlation_id": correlation_id}):
        Tag.objects.create(name="a")
    assert 0 < len(last().correlation_id) <= 64
