"""Durations of a ``digest``, a ``throttle`` and a ``retention`` that are zero, negative or too long."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from django_signal_audit.checks import check_rules

from .notices import LOG


def reported(settings: Any, key: str, value: object) -> list[tuple[str, str, str]]:
    rule: dict[str, Any] = {"name": "a", "model": "app.Product"}
    if key == "retention":
        rule[key] = value
    else:
        rule["notify"] = [{"channel": "log", key: value}]
    settings.SIGNAL_AUDIT = {"RULES": [rule], "CHANNELS": {"log": {"BACKEND": LOG}}}
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in check_rules()]


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        *(
            ("digest", value, "Remove the key: each event is a message of its own then.")
            for value in ("0m", "0h", "0", "00d", "0 minutes", 0, False, dt.timedelta())
        ),
        *(("digest", value, 'Write "1h".') for value in ("-1h", "- 1h", "-1 hour")),
        ("digest", dt.timedelta(hours=-1), 'Write "3600s".'),
        ("digest", dt.timedelta(hours=1), 'Write "3600s".'),
        ("digest", "400d", 'The longest is "366d".'),
        *(
            ("throttle", value, "Remove the key: nothing is held back then.")
            for value in ("0", "0/1h", "5/0h", "0m", 0, False, "5 / 0 minutes")
        ),
        ("throttle", "-5/1h", 'Write "5/1h".'),
        ("throttle", "2000/1h", 'Write "1000/1h" or less.'),
        *(
            ("retention", value, "Write a period above zero, or remove the key to keep events forever.")
            for value in ("0d", "0", 0, "-1d", "-6mo", -30, dt.timedelta(), dt.timedelta(days=-1))
        ),
        ("retention", False, "Remove the key: events are kept forever then."),
    ],
)
def test_a_duration_that_is_none(settings: Any, key: str, value: object, hint: str) -> None:
    ((code, message, found),) = reported(settings, key, value)
    assert code == "E021"
    assert message.startswith("SIGNAL_AUDIT")
    assert f'["{key}"] must be ' in message
    assert found.endswith(hint)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("digest", ""),
        ("digest", "1s"),
        ("digest", "10m"),
        ("digest", "366d"),
        ("throttle", ""),
        ("throttle", "10m"),
        ("throttle", "5/10m"),
        ("throttle", "1000/1h"),
        ("retention", ""),
        ("retention", "10d"),
        ("retention", "100y"),
        ("retention", dt.timedelta(days=30)),
    ],
)
def test_a_duration_that_is_right(settings: Any, key: str, value: object) -> None:
    assert reported(settings, key, value) == []
