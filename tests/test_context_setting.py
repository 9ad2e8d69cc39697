"""The setting CONTEXT: asked once per request, task or transaction, and never a reason for a write to fail."""

from __future__ import annotations

import datetime as dt
import logging
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import RequestFactory

from django_signal_audit import audit_context
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.context.propagation import pack, task_scope
from django_signal_audit.context.scopes import context_scope

from .app.models import Category, Product
from .conftest import Audit, events, last

asked: list[str] = []
answer: Any = {}


def ambient() -> Any:
    asked.append("")
    if isinstance(answer, Exception):
        raise answer
    return answer() if callable(answer) else answer


async def never_awaited() -> dict[str, Any]:
    return {}


PATH = f"{__name__}.ambient"


@pytest.fixture(autouse=True)
def nobody_asked() -> None:
    asked.clear()
    say({"tenant": "acme"})


def say(value: Any) -> None:
    global answer
    answer = value


@pytest.mark.django_db
def test_what_it_says_is_kept_in_extra(audit: Audit) -> None:
    say({"tenant": "acme", "price": Decimal("1.50"), "day": dt.date(2026, 1, 2), "api_key": "hunter2"})
    audit(CONTEXT=PATH)
    Category.objects.create(name="a")
    extra = last().context["extra"]
    assert (extra["tenant"], extra["price"], extra["day"]) == ("acme", "1.50", "2026-01-02")
    assert "hunter2" not in str(extra)


@pytest.mark.django_db
def test_what_audit_context_says_counts_more(audit: Audit) -> None:
    say({"tenant": "acme", "region": "eu"})
    audit(CONTEXT=PATH)
    with audit_context(tenant="other"):
        Category.objects.create(name="a")
    assert last().context["extra"] == {"tenant": "other", "region": "eu"}


@pytest.mark.django_db
def test_a_request_asks_once_and_the_next_request_again(audit: Audit) -> None:
    audit(CONTEXT=PATH)
    for number in range(2):
        with context_scope(request=RequestFactory().get("/")):
            Category.objects.create(name="a")
            with audit_context(reason="nested"):
                Category.objects.create(name="b")
        assert len(asked) == number + 1
    assert all(event.context["extra"] == {"tenant": "acme"} for event in events())


@pytest.mark.django_db(transaction=True)
def test_outside_of_requests_each_transaction_asks_once(audit: Audit) -> None:
    audit(CONTEXT=PATH)
    with transaction.atomic():
        Category.objects.create(name="a")
        Category.objects.create(name="b")
    assert len(asked) == 1
    say({"tenant": "next"})
    with transaction.atomic():
        Category.objects.create(name="lost")
        transaction.set_rollback(True)
    with transaction.atomic():
        Category.objects.create(name="c")
    assert len(asked) == 3
    Category.objects.create(name="d")
    Category.objects.create(name="e")
    assert len(asked) == 5
    assert [event.context["extra"]["tenant"] for event in events()] == ["acme", "acme", "next", "next", "next"]


@pytest.mark.django_db
def test_a_task_asks_for_itself_and_keeps_what_it_was_given(audit: Audit) -> None:
    audit(CONTEXT=PATH)
    with context_scope(request=RequestFactory().get("/")):
        packed = pack()
    say({"worker": "w1"})
    with task_scope("nightly", packed):
        Category.objects.create(name="a")
        Category.objects.create(name="b")
    assert last().context["extra"] == {"tenant": "acme", "worker": "w1"}
    assert len(asked) == 2


@pytest.mark.django_db
def test_one_that_raises_is_logged_once_and_the_event_says_so(audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
    say(KeyError("hunter2"))
    audit(CONTEXT=PATH)
    with caplog.at_level(logging.ERROR, "django_signal_audit"), transaction.atomic(), audit_context(file="a.csv"):
        Category.objects.create(name="a")
        Category.objects.create(name="b")
    for event in events():
        assert event.context["extra"] == {"file": "a.csv"}
        assert event.context["extra_error"] == f"{PATH} raised KeyError"
        assert "hunter2" not in str(event.context)
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert 'SIGNAL_AUDIT["CONTEXT"]' in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (object, "returned type, not a dict"),
        (["acme"], "returned list, not a dict"),
        (None, "returned NoneType, not a dict"),
        ({"tenant": object()}, "returned what has no JSON"),
        ({("a", "b"): 1}, "returned what has no JSON"),
    ],
)
def test_an_answer_without_json_is_named_in_the_event(audit: Audit, said: Any, error: str) -> None:
    say((lambda: said) if callable(said) else said)
    audit(CONTEXT=PATH)
    Category.objects.create(name="a")
    assert last().context == {"extra_error": f"{PATH} {error}"}


@pytest.mark.django_db
def test_a_query_of_its_own_that_fails_does_not_end_the_transaction(audit: Audit) -> None:
    def broken() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM no_such_table")

    say(broken)
    audit(CONTEXT=PATH)
    with transaction.atomic():
        Category.objects.create(name="a")
    assert Category.objects.count() == 1
    assert " raised " in last().context["extra_error"]


@pytest.mark.django_db
def test_what_the_function_itself_writes_is_recorded_without_it(audit: Audit) -> None:
    def writes() -> dict[str, str]:
        Product.objects.create(name="inner")
        return {"tenant": "acme"}

    say(writes)
    audit(CONTEXT=PATH)
    with transaction.atomic():
        Category.objects.create(name="outer")
    found = {event.object_repr: event.context.get("extra") for event in events()}
    assert found == {"inner": None, "outer": {"tenant": "acme"}}


@pytest.mark.parametrize(
    "dotted", ["nowhere.at_all", *(f"{__name__}.{name}" for name in ("PATH", "never_awaited", "say"))]
)
def test_check_names_a_function_that_cannot_be_asked(audit: Audit, dotted: str) -> None:
    audit(CONTEXT=dotted)
    [problem] = check_plugins()
    assert str(problem.id).endswith("E080")
    assert problem.msg.startswith('SIGNAL_AUDIT["CONTEXT"]')


def test_check_names_a_value_that_is_no_path(audit: Audit) -> None:
    audit(CONTEXT=3)
    assert [str(problem.id)[-4:] for problem in check_rules()] == ["E003"]
