"""Mistakes in rules that would pass without a word, each with the edit that ``check`` proposes."""

from __future__ import annotations

from typing import Any

import pytest
from django.dispatch import Signal

from django_signal_audit.checks import check_plugins, check_rules

from .app.models import Product, Ticket
from .notices import EMAIL, LOG, calling

noticed = Signal()


def found(settings: Any, audit: dict[str, Any]) -> list[tuple[str, str, str]]:
    settings.SIGNAL_AUDIT = audit
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in [*check_rules(), *check_plugins()]]


def one(settings: Any, code: str, **rule: Any) -> str:
    """Return the hint of the only message about a rule."""
    channels = {"team-mail": {"BACKEND": EMAIL, "OPTIONS": {"to": "a@example.com"}}, "log": {"BACKEND": LOG}}
    (item,) = found(settings, {"RULES": [{"name": "r", **rule}], "CHANNELS": channels})
    assert item[0] == code
    return item[2]


class TestChoices:
    @pytest.mark.parametrize(
        ("when", "hint"),
        [
            ({"status": {"to": "dnoe"}}, "Did you mean 'done'?"),
            ({"status": {"from": "nwe"}}, "Did you mean 'new'?"),
            ({"status": {"to": ["done", "closed"]}}, "Its choices are: 'new', 'done'."),
            ({"status": {"to": "DONE"}}, "Did you mean 'done'?"),
            ({"status": {"to": "Finished"}}, "Write 'done': done is the value, and 'Finished' its label."),
            ({"status": {"to": ""}}, "Its choices are"),
            ({"priority": {"to": 3}}, "Its choices are: 1, 2."),
            ({"priority": {"to": 1.0}}, ""),
            ({"priority": {"to": "2"}}, ""),
            ({"kind": {"to": "crsh"}}, "Did you mean 'crash'?"),
            ({"kind": {"to": "Bugs"}}, "Its choices are"),
            ({"kind": {"to": ""}}, ""),
            ({"kind": {"from": "typo", "to": "crash"}}, ""),
            ({"result": {"to": "okay"}}, "Did you mean 'ok'?"),
            ({"result": {"from": None, "to": "ok"}}, ""),
            ({"status": {"to": Ticket.Status.DONE}}, ""),
            ({"status": {"from": Ticket.Status.NEW, "to": {"done"}}}, ""),
            ({"status": "changed"}, ""),
        ],
    )
    def test_a_value_that_is_none_of_them(self, settings: Any, when: Any, hint: str) -> None:
        messages = found(settings, {"RULES": [{"name": "r", "model": "app.Ticket", "when": when}]})
        assert [code for code, *_ in messages] == ["W032"] * bool(hint)
        for _, message, said in messages:
            assert message.startswith('SIGNAL_AUDIT["RULES"][0]["when"]["')
            assert hint in said

    def test_one_model_that_can_have_it_is_enough(self, settings: Any) -> None:
        rule = {"name": "r", "model": "app.*", "when": {"kind": {"to": "crsh"}}}
        assert [item[0] for item in found(settings, {"RULES": [rule]})] == ["W032"]
        rule["when"] = {"name": {"to": "anything"}}
        assert found(settings, {"RULES": [rule]}) == []

    def test_choices_that_ask_a_table_that_is_not_there(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> Any:
            raise LookupError

        monkeypatch.setattr(Ticket._meta.get_field("priority"), "choices", broken)
        assert found(settings, {"RULES": [{"name": "r", "model": "app.Ticket", "when": {"priority": {"to": 9}}}]}) == []


class TestConditions:
    @pytest.mark.parametrize(
        ("when", "hint"),
        [
            ({"status": "done"}, 'Use {"to": "done"}.'),
            ({"status": "Finished"}, 'Use {"to": "Finished"}.'),
            ({"status": "whatever"}, 'Use {"to": "whatever"}, or one of changed'),
            ({"status": ["new", "done"]}, "such as {\"to\": ['new', 'done']}"),
            ({"priority": 2}, 'such as {"to": 2}.'),
            ({"priority": "increase"}, "Did you mean 'increased'?"),
            ({"priority": "Increases"}, "Did you mean 'increased'?"),
            ({"priority": "drops"}, "Did you mean 'decreased'?"),
            ({"priority": ">"}, "crosses_above takes a value"),
            ({"priority": {">": 1}}, "Did you mean 'crosses_above'?"),
            ({"priority": {"gte": 1}}, "Did you mean 'crosses_above'?"),
            ({"priority": {"lt": 1}}, "Did you mean 'crosses_below'?"),
            ({"status": {"==": "done"}}, "Did you mean 'to'?"),
            ({"status": {"becomes": "done"}}, "Did you mean 'to'?"),
            ({"status": {"was": "done"}}, "Did you mean 'from'?"),
            ({"priority": {"increase": True}}, '"increased" takes no value'),
            ({"priority": {"increase_by": 1}}, "Did you mean 'increased_by'?"),
        ],
    )
    def test_an_operator_that_is_none(self, settings: Any, when: Any, hint: str) -> None:
        assert hint in one(settings, "E012", model="app.Ticket", when=when)

    @pytest.mark.parametrize("spec", ["added", "increased", {"added": 3}, {"to": 3}, {"lt": 3}])
    def test_the_hint_for_a_many_to_many_field_names_its_only_operator(self, settings: Any, spec: Any) -> None:
        hint = one(settings, "E012", model="app.Product", when={"tags": spec})
        assert 'Use "changed". For what was added or removed, write a function that reads change.members.' in hint

    @pytest.mark.parametrize(
        ("key", "value", "hint"),
        [
            ("when", {"price__gt": "changed"}, "Did you mean 'price'?"),
            ("when", {"category__name": "changed"}, "Did you mean 'category'?"),
            ("when", {"category_id": "changed"}, "Did you mean 'category'?"),
            ("when", {"is active": "changed"}, "Did you mean 'is_active'?"),
            ("fields", ["Price"], "Did you mean 'price'?"),
            ("fields", ["category_id"], "Did you mean 'category'?"),
            ("exclude", ["category.name"], "Did you mean 'category'?"),
        ],
    )
    def test_a_field_that_is_none(self, settings: Any, key: str, value: Any, hint: str) -> None:
        assert hint in one(settings, "E010", model="app.Product", **{key: value})


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("app", 'Write "app.*" for all models of the app'),
        ("App", 'Write "app.*"'),
        ("tests.app", 'Write "app.*"'),
        ("tests.app.*", 'Write "app.*"'),
        ("app.models", 'Write "app.*"'),
        ("app.models.*", 'Write "app.*"'),
        ("Product", "Did you mean 'app.Product'?"),
        ("product", "Did you mean 'app.Product'?"),
        ("products", "Did you mean 'app.Product'?"),
        ("Product.*", "Did you mean 'app.Product'?"),
        ("app_product", "Did you mean 'app.Product'?"),
        ("app.products", "Did you mean 'app.Product'?"),
        ("app.models.Product", "Did you mean 'app.Product'?"),
        ("tests.app.Product", "Did you mean 'app.Product'?"),
        ("tests.app.models.Product", "Did you mean 'app.Product'?"),
        ("app.Prodct", "Did you mean 'app.Product'?"),
        ("soft deleted", "Did you mean 'app.SoftDeleted'?"),
        ("app.soft_deleted", "Did you mean 'app.SoftDeleted'?"),
        ("CheapProduct", "Did you mean 'app.CheapProduct'?"),
        ("auth.Groups", "Did you mean 'auth.Group'?"),
    ],
)
def test_a_model_by_another_name(settings: Any, model: str, hint: str) -> None:
    assert hint in one(settings, "E009", model=model)


def test_a_model_class_in_place_of_its_label(settings: Any) -> None:
    assert one(settings, "E008", model=Product) == 'Write "app.Product".'
    assert one(settings, "E008", model=[Product]) == 'Write "app.Product".'


@pytest.mark.parametrize(
    ("event", "meant"),
    [
        ("created", "create"),
        ("save", "create"),
        ("post_save", "create"),
        ("added", "create"),
        ("change", "update"),
        ("edit", "update"),
        ("updated", "update"),
        ("deleted", "delete"),
        ("remove", "delete"),
        ("post_delete", "delete"),
        ("m2m_changed", "m2m"),
        ("Create", "create"),
        (" create", "create"),
    ],
)
def test_a_model_event_by_another_name(settings: Any, event: str, meant: str) -> None:
    assert one(settings, "E011", model="app.Tag", events=[event]) == f"Did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("event", "meant"),
    [
        ("login_faild", "login_failed"),
        ("failed_login", "login_failed"),
        ("log_in", "login"),
        ("logged_out", "logout"),
        ("Login", "login"),
        ("requests", "request"),
        ("report_sent", ""),
        ("relogin_asked", ""),
    ],
)
def test_an_event_without_a_model_by_another_name(settings: Any, event: str, meant: str) -> None:
    messages = found(settings, {"RULES": [{"name": "r", "events": [event]}]})
    assert [(code, hint) for code, _, hint in messages] == [("W031", f"Did you mean {meant!r}?")] * bool(meant)


@pytest.mark.parametrize(
    ("level", "meant"),
    [("error", "critical"), ("fatal", "critical"), ("Warning", "warning"), ("warn", "warning"), ("debug", "info")],
)
def test_a_level_by_another_name(settings: Any, level: str, meant: str) -> None:
    assert one(settings, "E013", model="app.Tag", level=level) == f"Did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("signal", "hint"),
    [
        ("viewed", "Did you mean 'tests.app.signals.viewed'?"),
        ("veiwed", "Did you mean 'tests.app.signals.viewed'?"),
        ("tests.app.signals", "such as 'tests.app.signals.viewed'"),
        ("tests.app.signals.veiwed", "Did you mean 'tests.app.signals.viewed'?"),
        ("post_save", 'Name "model" and "events": ["create", "update"] instead'),
        ("django.db.models.signals.post_delete", 'Name "model" and "events": ["delete"] instead'),
        ("user_logged_in", 'Name "events": ["login"] instead'),
    ],
)
def test_a_signal_by_another_name(settings: Any, signal: str, hint: str) -> None:
    assert hint in one(settings, "E016", signal=signal, event="seen")


@pytest.mark.parametrize(
    ("alias", "hint"),
    [
        ("team_mail", "Did you mean 'team-mail'?"),
        ("email", "Did you mean 'team-mail'?"),
        (EMAIL, "Did you mean 'team-mail'?"),
        ("boss@example.com", "\"to\": 'boss@example.com'"),
        ("pigeon", "Known are: log, team-mail."),
    ],
)
def test_a_channel_by_another_name(settings: Any, alias: str, hint: str) -> None:
    assert hint in one(settings, "E014", model="app.Tag", notify=[alias])


@pytest.mark.parametrize(
    "backend",
    ["email", "EmailChannel", "mail", "django_signal_audit.channels.EmailChannel", "django_signal_audit.EmailChannel"],
)
def test_a_backend_by_another_name(settings: Any, backend: str) -> None:
    ((code, _, hint),) = found(settings, {"CHANNELS": {"it": {"BACKEND": backend}}})
    assert (code, hint) == ("E015", f"Did you mean '{EMAIL}'?")


@pytest.mark.parametrize("dispatcher", ["worker", "WorkerDispatcher", "django_signal_audit.WorkerDispatcher"])
def test_a_dispatcher_by_another_name(settings: Any, dispatcher: str) -> None:
    ((code, _, hint),) = found(settings, {"DISPATCHER": dispatcher})
    assert (code, hint) == ("E022", "Did you mean 'django_signal_audit.dispatchers.WorkerDispatcher'?")


def test_a_condition_in_a_function_by_another_name(settings: Any) -> None:
    hint = one(settings, "E016", model="app.Tag", when="tests.notices.tke")
    assert hint == "Did you mean 'tests.notices.take'?"
    settings.SIGNAL_AUDIT = {"CHANNELS": {"it": calling("tke")}}
    (message,) = check_plugins()
    assert "tests.notices.take" in str(message.hint)
