"""Conditions for values that the column can't hold, and on changes that no event has together."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from django_signal_audit.checks import check_rules


def reported(
    settings: Any, when: dict[str, Any], model: str = "app.Product", **keys: Any
) -> list[tuple[str, str, str]]:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "a", "model": model, "when": when, **keys}]}
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in check_rules()]


@pytest.mark.parametrize(
    ("field", "value", "message", "hint"),
    [
        ("price", "1.234", "names '1.234', and the field holds 2 decimal places: no row has it.", 'Write "1.23".'),
        ("price", Decimal("0.001"), "holds 2 decimal places", 'Write "0.00".'),
        ("price", 1.999, "holds 2 decimal places", 'Write "2.00".'),
        ("price", 10**8, "holds 8 digits before the point", "Write a smaller number."),
        ("price", "-123456789", "holds 8 digits before the point", "Write a smaller number."),
        ("price", None, "names None, and the field has no null=True: no row has it.", "Remove it, or name a value."),
        ("name", "x" * 60, "which has 60 characters, and the field holds 50", "Write at most 50 characters."),
        ("name", None, "the field has no null=True", 'Write "" for an empty text.'),
        ("photo", "x" * 101, "which has 101 characters, and the field holds 100", "Write at most 100 characters."),
        ("photo", None, "the field has no null=True", 'Write "" for an empty text.'),
        ("is_active", None, "the field has no null=True", "Remove it, or name a value."),
        ("weight", float("nan"), "which equals nothing", "Remove it."),
        ("stock", 10**30, "and the column holds -", "Write a number between them."),
        ("category", 10**30, "and the column holds ", "Write a number between them."),
    ],
)
@pytest.mark.parametrize("key", ["from", "to"])
@pytest.mark.parametrize("in_list", [False, True])
def test_a_value_that_the_column_cannot_hold(
    settings: Any, field: str, value: object, message: str, hint: str, key: str, in_list: bool
) -> None:
    ((code, text, found_hint),) = reported(settings, {field: {key: [value] if in_list else value}})
    assert code == "W036"
    assert text.startswith(f'SIGNAL_AUDIT["RULES"][0]["when"]["{field}"]["{key}"] ')
    assert message in text
    assert found_hint == hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price", "1.23"),
        ("price", "1.230"),
        ("price", 1.1),
        ("price", "1e3"),
        ("price", "99999999.99"),
        ("price", -5),
        ("name", "x" * 50),
        ("name", ""),
        ("slug", None),
        ("photo", ""),
        ("stock", -1),
        ("stock", 2_000_000_000),
        ("category", 3),
        ("category", None),
        ("weight", 1.23456789),
        ("weight", float("inf")),
        ("weight", None),
        ("attributes", {"a": "x" * 5000}),
        ("attributes", None),
        ("released", "2026-01-01"),
        ("modified", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        ("is_active", False),
    ],
)
@pytest.mark.parametrize("key", ["from", "to"])
def test_a_value_that_the_column_holds(settings: Any, field: str, value: object, key: str) -> None:
    assert reported(settings, {field: {key: value}}) == []


def test_the_value_of_a_list_that_no_row_has_is_named(settings: Any) -> None:
    ((code, message, _),) = reported(settings, {"price": {"to": ["1.00", "2.555", "3.00"]}})
    assert code == "W036"
    assert "names '2.555'" in message


@pytest.mark.parametrize("key", ["crosses_above", "crosses_below"])
def test_a_line_that_no_value_lies_beyond(settings: Any, key: str) -> None:
    assert [code for code, _, _ in reported(settings, {"price": {key: 10**9}})] == ["W036"]
    assert [code for code, _, _ in reported(settings, {"stock": {key: 10**30}})] == ["W036"]


@pytest.mark.parametrize("key", ["crosses_above", "crosses_below"])
def test_a_line_between_two_values_is_right(settings: Any, key: str) -> None:
    assert reported(settings, {"price": {key: "1.234"}}) == []
    assert reported(settings, {"stock": {key: 0}}) == []
    assert reported(settings, {"released": {key: "2026-01-01"}}) == []


def test_one_of_several_models_that_holds_the_value_is_enough(settings: Any) -> None:
    # A line takes 50 characters, a note 100.
    models = ["app.Note", "app.Line"]
    assert reported(settings, {"text": {"to": "x" * 60}}, model=models) == []  # type: ignore[arg-type]
    assert [code for code, _, _ in reported(settings, {"text": {"to": "x" * 60}}, model="app.Line")] == ["W036"]


def test_a_field_of_a_class_of_its_own_may_hold_anything(settings: Any) -> None:
    assert reported(settings, {"label": {"to": "x" * 60}}, model="columns.Painted") == []


def test_a_generated_column_holds_what_its_output_does(settings: Any) -> None:
    assert reported(settings, {"area": {"to": None}}, model="app.Box") == []
    assert reported(settings, {"area": {"to": 12}}, model="app.Box") == []
    assert [code for code, _, _ in reported(settings, {"area": {"to": 10**30}}, model="app.Box")] == ["W036"]


def test_a_value_that_is_no_choice_has_one_message(settings: Any) -> None:
    ((code, _, _),) = reported(settings, {"status": {"to": "x" * 60}}, model="app.Ticket")
    assert code == "W032"


def test_a_column_and_an_m2m_field_in_one_condition_hold_only_for_deletions(settings: Any) -> None:
    when = {"tags": "changed", "price": "changed"}
    ((code, message, hint),) = reported(settings, when)
    assert code == "W001"
    assert message == (
        'SIGNAL_AUDIT["RULES"][0]["when"] holds only for deletions: its condition asks for "tags" and "price" at once, '
        "and an m2m change is an event of its own."
    )
    assert hint == "Make two rules of it: one for the column, one for the many-to-many field."


def test_a_column_and_an_m2m_field_of_which_one_needs_an_old_and_a_new_value_never_hold(settings: Any) -> None:
    ((code, message, hint),) = reported(settings, {"tags": "changed", "price": "decreased"})
    assert code == "W001"
    assert "can never match" in message
    assert 'asks for "tags" and "price" at once' in message
    assert hint.startswith("Make two rules of it")


@pytest.mark.parametrize("keys", [{"events": ["delete"]}, {"events": ["delete"], "fields": ["tags", "price"]}])
def test_a_rule_for_deletions_may_ask_for_both(settings: Any, keys: dict[str, Any]) -> None:
    assert reported(settings, {"tags": "changed", "price": "changed"}, **keys) == []


@pytest.mark.parametrize(
    "when", [{"tags": "changed"}, {"price": "decreased", "stock": "changed"}, {"price": "changed"}]
)
def test_a_condition_on_one_kind_of_field_may_hold(settings: Any, when: dict[str, Any]) -> None:
    assert reported(settings, when) == []
