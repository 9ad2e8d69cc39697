"""How long events are kept: which periods are understood, which are refused, and where months end."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.management import CommandError

from django_signal_audit import Rule
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.retention.pruning import Retention, periods_of
from django_signal_audit.rules.durations import parse_period
from django_signal_audit.rules.registry import get_registry

from .conftest import Audit
from .samples import NOON
from .test_prune_command import aged, left, prune

PATH = 'SIGNAL_AUDIT["RULES"][0]["retention"]'


def problems(settings: Any, retention: Any) -> list[tuple[str, str, str]]:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "r", "model": "app.Tag", "retention": retention}]}
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in check_rules()]


@pytest.mark.parametrize("retention", ["365d", "12w", "6mo", "1y", "24h", " 6 MO ", dt.timedelta(days=30), ""])
def test_a_period_that_is_understood(settings: Any, retention: Any) -> None:
    assert problems(settings, retention) == []


@pytest.mark.parametrize(
    ("retention", "hint"),
    [
        ("6m", 'write "6mo" for months or "6y" for years'),
        ("6M", 'write "6mo"'),
        ("1 year", 'Write "1y".'),
        ("12 months", 'Write "12mo".'),
        ("3 weeks", 'Write "3w".'),
        ("90min", "write hours or days"),
        (365, 'Write "365d" for days.'),
        (1.5, "It is 1.5."),
        (True, "It is True."),
        (0, "It is 0."),
        (-5, "It is -5."),
        ("0d", "It is '0d'."),
        ("-5d", "It is '-5d'."),
        ("1.5y", "It is '1.5y'."),
        ("9" * 5000 + "d", "It is '999"),
        ("99999999999d", "It is '99999999999d'."),
        (dt.timedelta(0), "It is datetime.timedelta(0)."),
        (dt.timedelta(days=-1), "It is datetime.timedelta"),
        (None, "It is None."),
        ({}, 'Write {"last": 50}'),
        ({"last": 0}, 'Write {"last": 50}'),
        ({"last": True}, 'Write {"last": 50}'),
        ({"last": "50"}, 'Write {"last": 50}'),
        ({"first": 50}, 'Write {"last": 50}'),
        (["365d"], "It is ['365d']."),
    ],
)
def test_a_period_that_is_refused_with_what_to_write(settings: Any, retention: Any, hint: str) -> None:
    ((code, message, found),) = problems(settings, retention)
    assert code == "E021"
    assert message.startswith(f'{PATH} must be a duration such as "365d", "12w", "6mo" or "1y"')
    assert hint in found


@pytest.mark.parametrize("retention", ["12h", "90s", "23h", dt.timedelta(hours=5)])
def test_less_than_a_day_is_a_warning(settings: Any, retention: Any) -> None:
    ((code, message, hint),) = problems(settings, retention)
    assert (code, message.startswith(PATH)) == ("W029", True)
    assert "less than a day" in message
    assert '"6mo"' in hint


@pytest.mark.django_db
def test_a_number_of_events_of_each_object_is_kept(settings: Any, audit: Audit) -> None:
    assert problems(settings, {"last": 2}) == []
    audit({"name": "r", "model": "app.Product", "retention": {"last": 2}})
    for number in range(4):
        aged(9 - number, rules=["r"], object_repr=f"kept{number}")
    aged(4000, rules=["r"], object_id="9", object_repr="another")
    assert prune() == "2 events pruned.\n"
    assert left() == ["another", "kept2", "kept3"]


def test_a_number_for_events_without_an_object_is_a_warning(audit: Audit) -> None:
    audit({"name": "r", "events": ["request"], "retention": {"last": 2}})
    assert ["W082" in str(problem.code) for problem in get_registry().problems] == [True]


EVERYTHING = {"name": "everything", "model": "app.*"}


@pytest.mark.parametrize(
    ("other", "is_kept_forever"),
    [
        (EVERYTHING, True),
        ({**EVERYTHING, "events": ["create", "update", "delete", "m2m", "view"]}, True),
        ({**EVERYTHING, "retention": "9y"}, False),
        ({**EVERYTHING, "events": ["update"]}, False),
        ({**EVERYTHING, "when": {"name": "changed"}}, False),
        ({**EVERYTHING, "model": "app.Product", "exclude": ["name"]}, False),
        ({**EVERYTHING, "enabled": False}, False),
    ],
)
def test_a_retention_that_never_counts_is_a_warning(audit: Audit, other: Any, is_kept_forever: bool) -> None:
    audit(other, {"name": "short", "model": ["app.Product", "app.Tag"], "retention": "1y", "when": {"name": "changed"}})
    found = [(item.msg, item.hint) for item in check_plugins() if str(item.id).endswith("W001")]
    message = (
        'SIGNAL_AUDIT["RULES"][1]["retention"] has no effect on app.Product, app.Tag: '
        'the rule "everything" records the same events, and keeps them forever.'
    )
    hint = 'Set a retention for the rule "everything" as well: the longest one counts.'
    assert found == ([(message, hint)] if is_kept_forever else [])


@pytest.mark.parametrize(
    ("other", "is_kept_forever"),
    [
        ({"events": ["login", "request"]}, True),
        ({"events": ["login", "request"], "retention": "9y"}, False),
        ({"events": ["login"]}, False),
        ({"events": ["login", "request"], "methods": ["POST"]}, False),
        ({"events": ["login", "request"], "paths": ["/shop/*"]}, False),
    ],
)
def test_so_is_one_for_events_without_a_model(audit: Audit, other: dict[str, Any], is_kept_forever: bool) -> None:
    audit({"name": "other", **other}, {"name": "short", "events": ["login", "request"], "retention": "1y"})
    found = [item.msg for item in check_plugins() if "forever" in item.msg]
    message = (
        'SIGNAL_AUDIT["RULES"][1]["retention"] has no effect on login, request: '
        'the rule "other" records the same events, and keeps them forever.'
    )
    assert found == ([message] if is_kept_forever else [])


def test_a_rule_object_takes_the_same() -> None:
    rules = [Rule(name="a", retention="6mo"), Rule(name="b", retention=dt.timedelta(days=2)), Rule(name="c")]
    assert set(periods_of(rules)) == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "moment", "before"),
    [
        ("1mo", "2026-03-31T12:00", "2026-02-28T12:00"),
        ("1mo", "2024-03-31T12:00", "2024-02-29T12:00"),
        ("6mo", "2026-08-31T00:00", "2026-02-28T00:00"),
        ("6mo", "2026-01-15T08:30", "2025-07-15T08:30"),
        ("1y", "2024-02-29T10:00", "2023-02-28T10:00"),
        ("1y", "2025-01-01T00:00", "2024-01-01T00:00"),
        ("12mo", "2026-12-31T00:00", "2025-12-31T00:00"),
        ("13mo", "2026-01-31T00:00", "2024-12-31T00:00"),
        ("12w", "2026-03-26T00:00", "2026-01-01T00:00"),
    ],
)
def test_months_and_years_are_those_of_the_calendar(text: str, moment: str, before: str) -> None:
    period = parse_period(text)
    assert period is not None
    assert period.before(dt.datetime.fromisoformat(moment)) == dt.datetime.fromisoformat(before)


@pytest.mark.parametrize("text", ["3000y", "9999999999mo", "9999999999y", "999999999d"])
def test_a_period_longer_than_all_dates_keeps_everything(text: str) -> None:
    period = parse_period(text)
    assert period is not None
    assert period.before(NOON) is None
    assert Retention(now=NOON, periods={"a": period}).cutoff is None
    assert Retention(now=NOON, periods={}, older_than=period).cutoff is None


@pytest.mark.django_db
class TestPrune:
    def test_by_months_of_the_rules(self, audit: Audit) -> None:
        audit(
            {"name": "half", "model": "app.Tag", "retention": "6mo"},
            {"name": "year", "model": "app.Product", "retention": "1y"},
            {"name": "ever", "model": "app.Category", "retention": "3000y"},
        )
        for name, rules in {"half": ["half"], "year": ["half", "year"], "ever": ["half", "ever"]}.items():
            aged(200, object_repr=name, rules=rules)
        aged(150, object_repr="young", rules=["half"])
        aged(400, object_repr="old", rules=["half", "year"])
        assert prune() == "2 events pruned.\n"
        assert left() == ["year", "ever", "young"]

    def test_by_a_timedelta(self, audit: Audit) -> None:
        audit({"name": "a", "model": "app.Tag", "retention": dt.timedelta(days=30)})
        aged(31, rules=["a"], object_repr="old")
        aged(29, rules=["a"], object_repr="young")
        prune()
        assert left() == ["young"]

    def test_by_an_age_in_months(self) -> None:
        aged(200, object_repr="old")
        aged(150, object_repr="young")
        prune("--older-than", "6mo")
        assert left() == ["young"]

    @pytest.mark.parametrize(
        ("age", "hint"),
        [
            ("6m", "write 6mo for months or 6y for years"),
            ("0d", "isn't an age"),
            ("-5d", "isn't an age"),
            ("", "isn't an age"),
            ("1 year", "Write 1y."),
            ("9" * 5000, "isn't an age"),
        ],
    )
    def test_an_age_that_is_refused(self, age: str, hint: str) -> None:
        aged(4000, object_repr="kept")
        with pytest.raises(CommandError) as caught:
            prune(f"--older-than={age}")
        assert hint in str(caught.value)
        assert caught.value.returncode == 2
        assert left() == ["kept"]
