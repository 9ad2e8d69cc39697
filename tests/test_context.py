from __future__ import annotations

import asyncio
import contextvars
import threading
from contextvars import Context
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import call_command
from django.utils.functional import SimpleLazyObject

from django_signal_audit import audit_context, record, suspend_auditing
from django_signal_audit.context.scopes import current_context

from .app.models import Category, Product, Tag
from .conftest import Audit, events, last, run_async


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create_user("anna")


@pytest.fixture
def bert(db: None) -> User:
    return User.objects.create_user("bert")


def test_scopes_that_end_in_another_order_than_they_began(audit: Audit, anna: User) -> None:
    audit()
    first, second = audit_context(actor=anna, reason="A", a=1), audit_context(reason="B", b=2)
    first.__enter__()
    Category.objects.create(name="first")
    second.__enter__()
    Category.objects.create(name="both")
    first.__exit__(None, None, None)
    Category.objects.create(name="second")
    second.__exit__(None, None, None)
    Category.objects.create(name="none")
    found = [(event.actor_repr, event.context) for event in events()]
    assert found == [
        ("anna", {"reason": "A", "extra": {"a": 1}}),
        ("anna", {"reason": "B", "extra": {"a": 1, "b": 2}}),
        ("", {"reason": "B", "extra": {"b": 2}}),
        ("", {}),
    ]


@pytest.mark.django_db
def test_suspensions_that_end_in_another_order_than_they_began(audit: Audit) -> None:
    audit()
    first, second = suspend_auditing(Category, reason="a"), suspend_auditing(Tag, reason="b")
    first.__enter__()
    second.__enter__()
    Category.objects.create(name="x")
    first.__exit__(None, None, None)
    Category.objects.create(name="recorded")
    Tag.objects.create(name="x")
    second.__exit__(None, None, None)
    Tag.objects.create(name="recorded")
    Category.objects.create(name="recorded")
    assert [event.object_repr for event in events(event_type="create")] == ["recorded"] * 3


def test_a_scope_that_ends_elsewhere_than_it_began_leaves_what_is_there(audit: Audit, anna: User) -> None:
    audit()
    scope = audit_context(actor=anna)
    Context().run(scope.__enter__)
    with audit_context(reason="here"):
        scope.__exit__(None, None, None)
        Category.objects.create(name="x")
    assert (last().actor_repr, last().context) == ("", {"reason": "here"})


def test_actor_reason_and_extra(audit: Audit, anna: User) -> None:
    audit()
    with audit_context(actor=anna, reason="import", file="a.csv", api_key="hunter2"):
        Category.objects.create(name="a")
    event = last()
    assert (event.actor_id, event.actor_repr) == (str(anna.pk), "anna")
    assert event.context["reason"] == "import"
    assert event.context["extra"]["file"] == "a.csv"
    assert "hunter2" not in str(event.context)


def test_an_inner_context_ends_where_its_block_does(audit: Audit, anna: User, bert: User) -> None:
    audit()
    with audit_context(actor=anna, reason="outer", a=1):
        Category.objects.create(name="1")
        with audit_context(actor=bert, b=2):
            Category.objects.create(name="2")
        Category.objects.create(name="3")
    Category.objects.create(name="4")
    found = [(event.actor_repr, event.context.get("reason"), event.context.get("extra")) for event in events()]
    assert found == [
        ("anna", "outer", {"a": 1}),
        ("bert", "outer", {"a": 1, "b": 2}),
        ("anna", "outer", {"a": 1}),
        ("", None, None),
    ]
    ids = [event.correlation_id for event in events()]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert all(ids)


def test_an_exception_restores_too() -> None:
    with pytest.raises(ValueError, match="x"), audit_context(reason="r"):
        raise ValueError("x")
    assert current_context().reason == ""


def test_decorators_sync_and_async(audit: Audit) -> None:
    @audit_context(reason="sync")
    def work() -> str:
        return current_context().reason

    @audit_context(reason="async")
    async def awork() -> str:
        await asyncio.sleep(0)
        return current_context().reason

    assert work() == "sync"
    assert work.__name__ == "work"
    assert run_async(awork()) == "async"
    assert current_context().reason == ""


def test_concurrent_tasks_do_not_mix() -> None:
    async def one(reason: str) -> list[str]:
        seen = []
        async with audit_context(reason=reason):
            for _ in range(3):
                await asyncio.sleep(0.001)
                seen.append(current_context().reason)
        return seen

    async def both() -> list[list[str]]:
        return await asyncio.gather(one("a"), one("b"))

    assert run_async(both()) == [["a"] * 3, ["b"] * 3]


def test_threads_take_the_context_along_when_asked() -> None:
    seen: list[str] = []
    with audit_context(reason="r"):
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=lambda: seen.append(current_context().reason)),
            threading.Thread(target=context.run, args=(lambda: seen.append(current_context().reason),)),
        ]
        for thread in threads:
            thread.start()
            thread.join()
    assert seen == ["", "r"]


@pytest.mark.django_db
def test_commands_name_themselves(audit: Audit) -> None:
    audit({"name": "users", "model": "auth.User"})
    call_command("createsuperuser", "--noinput", "--username", "root", "--email", "r@example.com")
    creation = events(event_type="create")[0]
    assert creation.context == {"command": "createsuperuser"}
    assert "hunter" not in str(creation.changes)


@pytest.mark.django_db
def test_an_actor_outlives_the_user(audit: Audit, anna: User) -> None:
    audit()
    with audit_context(actor=anna):
        Category.objects.create(name="a")
    anna.delete()
    assert last().actor_repr == "anna"


@pytest.mark.django_db
def test_a_plain_text_may_be_the_actor(audit: Audit) -> None:
    audit()
    with audit_context(actor="nightly import"):
        Category.objects.create(name="a")
    assert (last().actor_id, last().actor_repr) == ("nightly import", "nightly import")


@pytest.mark.django_db
def test_suspending_is_an_event_itself(audit: Audit) -> None:
    audit()
    with suspend_auditing(Category, reason="mass import"):
        Category.objects.create(name="a")
        Product.objects.create(name="p")
    Category.objects.create(name="b")
    assert [(event.event_type, event.object_repr) for event in events()] == [
        ("auditing_suspended", ""),
        ("create", "p"),
        ("auditing_resumed", ""),
        ("create", "b"),
    ]
    assert events()[0].data == {"models": ["app.Category"], "reason": "mass import"}
    assert events()[0].level == "warning"


@pytest.mark.django_db
def test_suspending_everything_nests(audit: Audit) -> None:
    audit()

    @suspend_auditing(reason="outer")
    def work() -> None:
        with suspend_auditing(Category, reason="inner"):
            Product.objects.create(name="p")
        Category.objects.create(name="a")

    work()
    assert {event.event_type for event in events()} == {"auditing_suspended", "auditing_resumed"}
    assert len(events()) == 4


@pytest.mark.django_db(transaction=True)
def test_suspending_in_async_code(audit: Audit) -> None:
    audit()

    async def work() -> None:
        async with suspend_auditing(Category, reason="async"):
            await Category.objects.acreate(name="a")
        await Category.objects.acreate(name="b")

    run_async(work())
    assert [event.event_type for event in events()] == ["auditing_suspended", "auditing_resumed", "create"]


def test_a_reason_is_needed() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        suspend_auditing(Category, reason=" ")


@pytest.mark.django_db
@pytest.mark.parametrize("wrong", ["app.Category", 3, Category(name="a")])
def test_only_models_can_be_suspended(audit: Audit, wrong: Any) -> None:
    audit()
    with pytest.raises(TypeError, match=r"^suspend_auditing\(\) takes model classes, not "):
        suspend_auditing(wrong, reason="why")
    assert events() == []


@pytest.mark.django_db
def test_record_refuses_what_it_would_lose(audit: Audit) -> None:
    audit()
    for wrong in ("text", 3, Category, object()):
        with pytest.raises(TypeError, match=r"^record\(\) takes an object of a model as obj, not "):
            record("x", wrong)  # type: ignore[arg-type]
    for wrong in ("text", [1], 0):
        with pytest.raises(TypeError, match=r"^record\(\) takes a dict as data, not "):
            record("x", data=wrong)  # type: ignore[arg-type]
    assert events() == []
    for nobody in (None, AnonymousUser(), SimpleLazyObject(AnonymousUser)):
        assert record("x", nobody) is not None  # type: ignore[arg-type]


@pytest.mark.django_db
def test_record_writes_an_event_with_its_data(audit: Audit, anna: User) -> None:
    audit({"name": "exports", "events": ["report_exported"], "level": "critical"})
    category = Category.objects.create(name="a")
    event = record("report_exported", category, data={"rows": 3, "password": "hunter2"}, actor=anna, level="warning")
    assert event is not None
    event = last()
    assert (event.event_type, event.source, event.model, event.object_id) == (
        "report_exported",
        "manual",
        "app.category",
        str(category.pk),
    )
    assert (event.level, event.rules, event.actor_repr) == ("critical", ["exports"], "anna")
    assert event.data["rows"] == 3
    assert "hunter2" not in str(event.data)


@pytest.mark.django_db
def test_record_needs_no_rule(audit: Audit) -> None:
    audit()
    record("something")
    assert (last().event_type, last().rules, last().object_id) == ("something", [], "")


@pytest.mark.parametrize("wrong", ["", "x" * 101, "update"])
def test_record_refuses_wrong_names(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"record\(\)"):
        record(wrong)
    with pytest.raises(ValueError, match="levels"):
        record("x", level="loud")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["\x00", "\ud800", "a\x00b", b"\xff", {1, 2}, object(), Unprintable(), 1e400, 10**30])
def test_any_payload_can_be_recorded(audit: Audit, value: object) -> None:
    audit()
    record("odd", data={"value": value, "nested": [{"deep": value}]})
    record("odd", data={str(type(value)): value})
    with audit_context(reason="\x00\ud800", odd=value):
        record("odd")
    assert len(events(event_type="odd")) == 3


@pytest.mark.django_db(transaction=True)
def test_record_works_in_async_code(audit: Audit) -> None:
    audit()

    async def work() -> None:
        async with audit_context(reason="async"):
            await sync_to_async(record)("something")

    run_async(work())
    assert last().context["reason"] == "async"
