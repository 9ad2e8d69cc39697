from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType

from django_signal_audit.enums import MODEL_EVENTS, Source
from django_signal_audit.events.changes import Change, FieldChange, M2MChange
from django_signal_audit.rules.conditions import OPERATORS, WORDS, can_hold, compile_when, when_problems
from django_signal_audit.rules.plans import condition_fields

from .app.models import Box, Category, Country, Document, Note, Person, Picture, Product, Tracked

D = Decimal
DAY = dt.timedelta(days=1)
UTC = dt.UTC


def change(event_type: str = "update", **fields: tuple[Any, Any] | M2MChange) -> Change:
    return Change(
        event_type=event_type,
        source=Source.ORM,
        using="default",
        fields={
            name: FieldChange(old=value[0], new=value[1]) for name, value in fields.items() if isinstance(value, tuple)
        },
        members={name: value for name, value in fields.items() if isinstance(value, M2MChange)},
    )


def holds(when: dict[str, Any], made: Change, model: Any = Product) -> bool:
    fields = condition_fields(model)
    assert when_problems(when, fields, "when") == []
    return compile_when(when, fields)(made)


def price(spec: Any, old: Any, new: Any, event_type: str = "update") -> bool:
    return holds({"price": spec}, change(event_type, price=(old and D(old), new and D(new))))


class TestWords:
    @pytest.mark.parametrize(
        ("word", "old", "new", "expected"),
        [
            ("changed", "10", "9", True),
            ("changed", None, "9", True),
            ("changed", "9", None, True),
            ("increased", "9", "10", True),
            ("increased", "10", "9", False),
            ("increased", None, "10", False),
            ("increased", "10", None, False),
            ("decreased", "10", "9.99", True),
            ("decreased", "9", "10", False),
            ("decreased", "10", None, False),
        ],
    )
    def test_words_compare_the_old_and_the_new_value(self, word: str, old: Any, new: Any, expected: bool) -> None:
        assert price(word, old, new) is expected

    def test_a_field_that_did_not_change_has_nothing_to_say(self) -> None:
        for spec in ("changed", "decreased", {"to": 5}, {"from": 5}):
            assert not holds({"stock": spec}, change(price=(D(2), D(1))))

    def test_text_has_an_order(self) -> None:
        assert holds({"name": "increased"}, change(name=("a", "b")))


class TestCreateAndDelete:
    """On create the old value is null: ``to`` and ``changed`` can hold. On delete the new one is."""

    @pytest.mark.parametrize(
        ("spec", "created", "deleted"),
        [
            ("changed", True, True),
            ("increased", False, False),
            ("decreased", False, False),
            ({"to": 5}, True, False),
            ({"from": 5}, False, True),
            ({"from": None}, False, False),
            ({"to": None}, False, False),
            ({"from": None, "to": 5}, False, False),
            ({"increased_by": 1}, False, False),
            ({"decreased_by": 1}, False, False),
            ({"increased_by_percent": 1}, False, False),
            ({"decreased_by_percent": 1}, False, False),
            ({"crosses_above": 4}, False, False),
            ({"crosses_below": 4}, False, False),
        ],
    )
    def test_every_operator_at_a_creation_and_a_deletion(self, spec: Any, created: bool, deleted: bool) -> None:
        assert price(spec, None, "5", "create") is created
        assert price(spec, "5", None, "delete") is deleted

    def test_a_null_that_is_created_or_deleted_has_not_changed(self) -> None:
        assert not price("changed", None, None, "create")
        assert not price("changed", None, None, "delete")

    def test_a_null_may_be_what_a_row_is_created_with(self) -> None:
        assert price({"to": None}, None, None, "create")

    def test_every_operator_is_tested(self) -> None:
        assert len(OPERATORS) + len(WORDS) == 11


class TestFromAndTo:
    @pytest.mark.parametrize("value", [9, 9.0, "9", "9.00", D("9.0"), [7, "9.00"], (9,), {9}])
    def test_values_are_read_as_the_field_reads_them(self, value: Any) -> None:
        assert price({"to": value}, "10.00", "9.00")
        assert price({"from": value}, "9.00", "10.00")
        assert not price({"to": value}, "9.00", "10.00")

    def test_both_must_hold(self) -> None:
        spec = {"from": [1, 2], "to": 3}
        assert price(spec, "2", "3")
        assert not price(spec, "4", "3")
        assert not price(spec, "2", "4")

    def test_null_is_a_value(self) -> None:
        assert holds({"weight": {"from": None}}, change(weight=(None, 1.5)))
        assert holds({"weight": {"to": [None, 2]}}, change(weight=(1.5, None)))
        assert not holds({"weight": {"to": None}}, change(weight=(None, 1.5)))

    def test_a_foreign_key_is_compared_by_key(self) -> None:
        assert holds({"category": {"from": [1, "2"], "to": 3}}, change(category=(2, 3)))
        assert not holds({"category": {"to": 3}}, change(category=(3, 2)))
        assert holds({"content_type": {"to": "7"}}, change(content_type=(1, 7)), Note)

    def test_from_and_to_take_values_of_every_type(self) -> None:
        key = "6fa459ea-ee8a-3ca4-894e-db77e160355e"
        assert holds({"is_active": {"to": False}}, change(is_active=(True, False)))
        assert holds({"name": {"to": ["Oil", "Gas"]}}, change(name=("Tar", "Gas")))
        assert holds({"released": {"to": "2026-03-01"}}, change(released=(None, dt.date(2026, 3, 1))))
        assert holds({"attributes": {"to": {"a": [1]}}}, change(attributes=({}, {"a": [1]})))
        assert holds({"code": {"to": "at"}}, change(code=("de", "at")), Country)
        assert holds({"title": {"from": key}}, change(title=(key, "x")), Document)
        assert holds({"area": {"to": 6}}, change(area=(1, 6)), Box)

    def test_moments_are_in_the_projects_time_zone_unless_they_say_another(self) -> None:
        noon = change(modified=(dt.datetime(2026, 1, 1, tzinfo=UTC), dt.datetime(2026, 3, 10, 11, tzinfo=UTC)))
        # Vienna is an hour ahead of UTC in winter.
        for value in ("2026-03-10T12:00", "2026-03-10T11:00Z", dt.datetime(2026, 3, 10, 11, tzinfo=UTC)):
            assert holds({"modified": {"to": value}}, noon)
        assert holds({"modified": {"crosses_above": dt.date(2026, 3, 1)}}, noon)
        assert not holds({"modified": {"crosses_above": dt.date(2026, 4, 1)}}, noon)

    def test_naive_projects_have_naive_moments(self, settings: Any) -> None:
        settings.USE_TZ = False
        made = change(modified=(dt.datetime(2026, 1, 1), dt.datetime(2026, 3, 10, 12)))
        assert holds({"modified": {"to": "2026-03-10T12:00"}}, made)
        assert holds({"modified": {"to": "2026-03-10T11:00Z"}}, made)


class TestSteps:
    @pytest.mark.parametrize("step", [2, 2.0, "2", D("2.00")])
    def test_at_least_so_much(self, step: Any) -> None:
        assert price({"increased_by": step}, "8.00", "10.00")
        assert not price({"increased_by": step}, "8.00", "9.99")
        assert not price({"increased_by": step}, "10.00", "8.00")
        assert price({"decreased_by": step}, "10.00", "8.00")
        assert not price({"decreased_by": step}, "10.00", "8.01")
        assert not price({"decreased_by": step}, "8.00", "10.00")

    def test_floats_are_exact(self) -> None:
        # 0.3 - 0.1 is 0.19999999999999998 in binary.
        assert holds({"weight": {"increased_by": 0.2}}, change(weight=(0.1, 0.3)))
        assert holds({"weight": {"decreased_by": "0.2"}}, change(weight=(0.3, 0.1)))
        assert not holds({"weight": {"increased_by": 0.2}}, change(weight=(0.1, 0.29)))

    def test_floats_that_are_no_numbers_raise_nothing(self) -> None:
        for old, new in ((math.nan, 1.0), (1.0, math.nan), (math.inf, -math.inf), (math.inf, math.nan)):
            for key in ("increased_by", "increased_by_percent", "decreased_by_percent", "crosses_above"):
                assert holds({"weight": {key: 1}}, change(weight=(old, new))) is False
        assert holds({"weight": {"increased_by": 1}}, change(weight=(1.0, math.inf)))
        assert holds({"weight": {"decreased_by": 1}}, change(weight=(1.0, -math.inf)))

    def test_dates_and_moments_take_a_timedelta(self) -> None:
        dates = change(released=(dt.date(2026, 3, 1), dt.date(2026, 3, 8)))
        assert holds({"released": {"increased_by": 7 * DAY}}, dates)
        assert not holds({"released": {"increased_by": 8 * DAY}}, dates)
        moments = change(modified=(dt.datetime(2026, 3, 2, tzinfo=UTC), dt.datetime(2026, 3, 1, tzinfo=UTC)))
        assert holds({"modified": {"decreased_by": DAY}}, moments)

    def test_steps_of_whole_numbers_may_be_fractions(self) -> None:
        assert holds({"stock": {"decreased_by": "2.5"}}, change(stock=(10, 7)))
        assert not holds({"stock": {"decreased_by": "2.5"}}, change(stock=(10, 8)))


class TestPercent:
    @pytest.mark.parametrize(
        ("old", "new", "percent", "rose", "fell"),
        [
            ("10", "11", 10, True, False),
            ("10", "10.99", 10, False, False),
            ("10", "9", 10, False, True),
            ("10", "9.01", 10, False, False),
            ("3", "2.70", "10", False, True),
            ("7", "6.30", 10.0, False, True),
            ("3", "4", D(100) / 3, True, False),
            ("30", "33", D("10.00"), True, False),
            # From zero every step is more than any percentage; of a negative value, its size counts.
            ("0", "0.01", 1000, True, False),
            ("0", "-0.01", 1000, False, True),
            ("-10", "-9", 10, True, False),
            ("-10", "-11", 10, False, True),
            ("10", "0", 100, False, True),
            ("10", "-1", 100, False, True),
        ],
    )
    def test_the_limit_itself_counts(self, old: str, new: str, percent: Any, rose: bool, fell: bool) -> None:
        made = change(price=(D(old), D(new)))
        assert holds({"price": {"increased_by_percent": percent}}, made) is rose
        assert holds({"price": {"decreased_by_percent": percent}}, made) is fell

    def test_percent_of_floats_is_exact(self) -> None:
        assert holds({"weight": {"increased_by_percent": 200}}, change(weight=(0.1, 0.3)))
        assert holds({"weight": {"decreased_by_percent": 50}}, change(weight=(0.3, 0.15)))


class TestThresholds:
    @pytest.mark.parametrize("line", [10, "10", "10.00", 10.0, D(10)])
    @pytest.mark.parametrize(
        ("old", "new", "above", "below"),
        [
            ("9.99", "10.01", True, False),
            ("10.00", "10.01", True, False),
            ("9.99", "10.00", False, False),
            ("10.01", "10.02", False, False),
            ("10.01", "9.99", False, True),
            ("10.00", "9.99", False, True),
            ("10.01", "10.00", False, False),
            ("9.99", "9.98", False, False),
        ],
    )
    def test_a_threshold_is_crossed_beyond_it(self, line: Any, old: str, new: str, above: bool, below: bool) -> None:
        assert price({"crosses_above": line}, old, new) is above
        assert price({"crosses_below": line}, old, new) is below

    def test_null_is_on_neither_side(self) -> None:
        assert not holds({"weight": {"crosses_above": 1}}, change(weight=(None, 2.0)))
        assert not holds({"weight": {"crosses_below": 1}}, change(weight=(2.0, None)))


class TestMany:
    def test_all_fields_and_operators_must_hold(self) -> None:
        when = {"price": {"decreased_by": 1, "crosses_below": 10}, "stock": {"to": 0}}
        assert holds(when, change(price=(D(11), D(9)), stock=(4, 0)))
        assert not holds(when, change(price=(D(11), D(9)), stock=(4, 1)))
        assert not holds(when, change(price=(D(11), D(9))))
        assert not holds(when, change(price=(D(9), D(7)), stock=(4, 0)))

    def test_an_m2m_field_changed_if_anything_was_added_or_removed(self) -> None:
        made = change("m2m", tags=M2MChange(added=(3,)))
        assert holds({"tags": "changed"}, made)
        assert not holds({"tags": "changed"}, change("m2m", tags=M2MChange()))
        assert not holds({"tags": "changed"}, change(price=(D(1), D(2))))
        assert not holds({"tags": "changed", "price": "changed"}, made)


class TestCanHold:
    def possible(self, spec: Any, name: str, model: Any = Product) -> list[str]:
        return [event for event in MODEL_EVENTS if can_hold(spec, condition_fields(model)[name], event)]

    def test_which_events_an_operator_can_hold_for(self) -> None:
        assert self.possible("changed", "price") == ["create", "update", "delete"]
        assert self.possible("decreased", "price") == ["update"]
        assert self.possible({"to": 1}, "price") == ["create", "update"]
        assert self.possible({"from": 1}, "price") == ["update", "delete"]
        assert self.possible({"from": 1, "to": 2}, "price") == ["update"]
        assert self.possible("changed", "tags") == ["delete", "m2m"]
        assert self.possible("changed", "id") == []
        assert self.possible({"to": 3}, "code", Country) == []

    def test_contradictions_can_never_hold(self) -> None:
        assert self.possible({"increased_by": 1, "decreased_by": 1}, "price") == []
        assert self.possible({"crosses_above": 1, "decreased_by": 1}, "price") == []
        assert self.possible({"from": 1, "to": "1.00"}, "price") == []
        assert self.possible({"from": [1, 2], "to": 1}, "price") == ["update"]


class TestProblems:
    @pytest.mark.parametrize(
        ("model", "when", "path", "message", "hint"),
        [
            (Product, {"price": "decresed"}, '["price"]', "isn't an operator", "Did you mean 'decreased'?"),
            (Product, {"price": "crosses_above"}, '["price"]', "isn't an operator", "{'crosses_above': …}"),
            (Product, {"price": {"crosses_abov": 3}}, '["price"]', "'crosses_abov'", "Did you mean 'crosses_above'?"),
            (Product, {"price": {"decreased": True}}, '["price"]', "'decreased'", "takes no value"),
            (Product, {"price": {3: True}}, '["price"]', "key 3", "Known are"),
            (Product, {"price": 3}, '["price"]', "not 3", "Write one of changed"),
            (Product, {"price": None}, '["price"]', "not None", "Write one of changed"),
            (Product, {"price": []}, '["price"]', "not []", "Write one of changed"),
            (Product, {"price": {}}, '["price"]', "not {}", "Write one of changed"),
            (Product, {"price": {"to": "cheap"}}, '["price"]["to"]', "'cheap'", "DecimalField 'price'"),
            (Product, {"price": {"to": []}}, '["price"]["to"]', "a value is needed", "DecimalField"),
            (Product, {"price": {"to": {"a": 1}}}, '["price"]["to"]', "doesn't take a dict", "DecimalField"),
            (Product, {"price": {"increased_by": None}}, '["price"]["increased_by"]', "a number", "DecimalField"),
            (Product, {"price": {"increased_by": True}}, '["price"]["increased_by"]', "a number", "DecimalField"),
            (Product, {"price": {"increased_by": "x"}}, '["price"]["increased_by"]', "a number", "DecimalField"),
            (Product, {"price": {"increased_by": "nan"}}, '["price"]["increased_by"]', "a number", "DecimalField"),
            (Product, {"price": {"increased_by": [1]}}, '["price"]["increased_by"]', "a number", "DecimalField"),
            (Product, {"price": {"increased_by": 0}}, '["price"]["increased_by"]', "positive", "DecimalField"),
            (Product, {"price": {"decreased_by": -1}}, '["price"]["decreased_by"]', "positive", "DecimalField"),
            (Product, {"price": {"increased_by": DAY}}, '["price"]["increased_by"]', "a number", "DecimalField"),
            (Product, {"price": {"crosses_above": None}}, '["price"]["crosses_above"]', "one value", "DecimalField"),
            (Product, {"name": {"crosses_above": ["a"]}}, '["name"]["crosses_above"]', "one value", "CharField"),
            (Product, {"stock": {"crosses_above": 0.5}}, '["stock"]["crosses_above"]', "whole number", "IntegerField"),
            (Product, {"stock": {"to": True}}, '["stock"]["to"]', "a number", "IntegerField"),
            (Product, {"released": {"increased_by": 3}}, '["released"]["increased_by"]', "timedelta", "DateField"),
            (
                Product,
                {"released": {"increased_by": -DAY}},
                '["released"]["increased_by"]',
                "positive",
                "DateField",
            ),
            (
                Product,
                {"released": {"increased_by_percent": 3}},
                '["released"]["increased_by_percent"]',
                "aren't numbers",
                "DateField",
            ),
            (Product, {"released": {"to": "soon"}}, '["released"]["to"]', "'soon'", "DateField"),
            (Product, {"modified": {"to": "soon"}}, '["modified"]["to"]', "'soon'", "DateTimeField"),
            (Product, {"modified": {"to": 5}}, '["modified"]["to"]', "cannot be 5", "DateTimeField"),
            (Product, {"name": {"increased_by": 1}}, '["name"]["increased_by"]', "aren't numbers", "CharField"),
            (Product, {"is_active": {"increased_by": 1}}, '["is_active"]["increased_by"]', "aren't numbers", "Boolean"),
            (Product, {"attributes": "increased"}, '["attributes"]', "can't be ordered", 'Use "changed" for JSONField'),
            (
                Product,
                {"attributes": {"crosses_above": 1}},
                '["attributes"]["crosses_above"]',
                "can't be ordered",
                "JSON",
            ),
            (Product, {"tags": "increased"}, '["tags"]', "many-to-many", 'Use "changed".'),
            (Product, {"tags": {"to": 3}}, '["tags"]', "many-to-many", 'Use "changed".'),
            (Product, {"category": {"to": "oil"}}, '["category"]["to"]', "'oil'", "ForeignKey 'category'"),
            (Document, {"id": {"to": "x"}}, '["id"]["to"]', "'x'", "UUIDField"),
            (Box, {"area": {"to": "x"}}, '["area"]["to"]', "'x'", "GeneratedField"),
        ],
    )
    def test_each_says_where_and_what_to_write(self, model: Any, when: Any, path: str, message: str, hint: str) -> None:
        (problem,) = when_problems(when, condition_fields(model), "when")
        assert problem.code == "E012"
        assert problem.path == f"when{path}"
        assert message in problem.message
        assert hint in problem.hint

    def test_all_are_reported_at_once(self) -> None:
        when = {"price": {"to": "x", "increased_by": -1, "wrong": 1}, "stock": "odd"}
        assert len(when_problems(when, condition_fields(Product), "when")) == 4

    def test_a_field_that_raises_anything_is_a_mistake_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        field = Tracked._meta.get_field("count")
        monkeypatch.setattr(field, "to_python", lambda value: 1 / 0, raising=False)
        (problem,) = when_problems({"count": {"to": 1}}, {"count": field}, "when")
        assert "division by zero" in problem.message

    def test_right_ones_are_none(self) -> None:
        right = {
            Product: {"price": {"from": [1, None], "to": "2.5"}, "photo": {"to": "a.jpg"}, "blob": "changed"},
            Picture: {"file": "changed", "product": {"to": 3}},
            Category: {"parent": {"to": None}},
            Person: {"friends": "changed", "owner": {"from": None}},
        }
        for model, when in right.items():
            assert when_problems(when, condition_fields(model), "when") == []

    def test_a_content_type_is_a_key_like_any_other(self) -> None:
        assert ContentType._meta.pk.name == "id"
        assert when_problems({"content_type": {"to": "x"}}, condition_fields(Note), "when")
