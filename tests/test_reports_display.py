from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import models
from django.utils import timezone

from django_signal_audit.events.values import Digest, Masked, mask, to_json
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import (
    change_lines,
    show_fields,
    show_payload,
    show_value,
    summarise,
)
from django_signal_audit.reports.formatter import show_time

from .samples import NOON


def event(**values):
    defaults = {"event_type": "update", "source": "orm", "model": "auth.user", "recorded_at": NOON}
    return AuditEvent(**{**defaults, **values})


class TestValues:
    @pytest.mark.parametrize(
        ("value", "text", "kind"),
        [
            (None, "—", "none"),
            ("", "empty", "empty"),
            (True, "yes", "text"),
            (0, "0", "text"),
            (Decimal("10.00"), "10.00", "text"),
            (Decimal("1E+3"), "1000", "text"),
            (Decimal("NaN"), "NaN", "text"),
            (Masked("hmac-sha256:abc"), "masked", "masked"),
            (Digest("sha256:" + "a" * 64, 70_000), "sha256:aaaaaaaaaaaa… (70000 bytes)", "digest"),
            ({"a": [1]}, '{\n  "a": [\n    1\n  ]\n}', "json"),
            (dt.date(2026, 3, 10), "2026-03-10", "text"),
            ("half \ud800 a pair", "half \\ud800 a pair", "text"),
        ],
    )
    def test_each_kind_says_what_it_is(self, value, text, kind):
        shown = show_value(None, value)
        assert (shown.text, shown.kind) == (text, kind)

    def test_a_choice_goes_by_label_and_value(self):
        field = models.CharField(choices=[("d", "Draft"), ("p", "Published")])
        assert show_value(field, "p").text == "Published (p)"
        assert show_value(field, "gone").text == "gone"
        assert show_value(field, Masked("tag")).text == "masked"

    def test_a_moment_is_shown_in_the_readers_zone_to_the_microsecond(self):
        assert show_time(NOON.replace(microsecond=5)) == "2026-03-10 13:00:00.000005+01:00"
        with timezone.override("America/New_York"):
            assert show_time(NOON) == "2026-03-10 08:00:00-04:00"

    def test_the_end_of_time_has_no_other_zone(self):
        assert show_time(dt.datetime.max.replace(tzinfo=dt.UTC)) == "9999-12-31 23:59:59.999999+00:00"


class TestFields:
    def test_fields_go_by_their_labels_and_gone_ones_by_their_names(self):
        shown = show_fields(event(changes={"first_name": ["Ada", ""], "shoe_size": [1, 2]}))
        assert [(line.label, line.old.text, line.new.text) for line in shown] == [
            ("First name", "Ada", "empty"),
            ("shoe_size", "1", "2"),
        ]

    def test_they_come_in_the_order_of_the_model_however_they_were_recorded(self):
        names = ["shoe_size", "is_staff", "email", "first_name", "password"]
        shown = show_fields(event(changes={name: ["a", "b"] for name in names}))
        assert [line.name for line in shown] == ["password", "first_name", "email", "is_staff", "shoe_size"]

    def test_members_come_last_with_what_came_and_went(self):
        [first, members] = show_fields(
            event(changes={"groups": {"added": [3], "removed": [1, 2]}, "email": ["a", "b"]})
        )
        assert first.name == "email"
        assert members.is_members
        assert [value.text for value in members.added] == ["3"]
        assert [value.text for value in members.removed] == ["1", "2"]

    def test_a_model_that_is_gone_can_still_be_read(self):
        [line] = show_fields(event(model="gone.thing", changes={"price": ["1.0", "2.0"]}))
        assert (line.label, line.old.text, line.new.text) == ("price", "1.0", "2.0")

    def test_a_masked_value_shows_nothing_of_itself(self):
        changes = {"password": [mask("auth.user.password", "old"), mask("auth.user.password", "new")]}
        [line] = show_fields(event(changes=changes))
        assert (line.old.text, line.new.text) == ("masked", "masked")


class TestLines:
    def test_an_update_has_an_arrow_a_create_and_a_delete_have_none(self):
        assert change_lines(event(changes={"email": ["a", "b"]})) == ["Email address: a → b"]
        assert change_lines(event(event_type="create", changes={"email": [None, "b"]})) == ["Email address: b"]
        assert change_lines(event(event_type="delete", changes={"email": ["a", None]})) == ["Email address: a"]

    def test_members_have_signs(self):
        changes = {"groups": {"added": [3, 5], "removed": [1]}}
        assert change_lines(event(event_type="m2m", changes=changes)) == ["Groups: +3, +5, −1"]  # noqa: RUF001

    def test_json_is_on_one_line_and_escapes_are_spelt_out(self):
        lines = change_lines(event(changes={"x\x1b": [{"a": 1, "b": "two\n  lines"}, "\x1b[2J"]}))
        assert lines == ['x\\x1b: { "a": 1, "b": "two\\n  lines" } → \\x1b[2J']

    def test_without_changes_the_payload_is_shown(self):
        data = {"rows": 3, "filter": {"price": {"gt": "5"}}, "token": mask("x", "secret"), "none": {}}
        assert change_lines(event(event_type="report_exported", data=data)) == [
            "rows: 3",
            "filter.price.gt: 5",
            "token: masked",
            "none: {}",
        ]

    def test_a_summary_is_short_and_says_what_it_leaves_out(self):
        changes = {f"field_{number}": ["a" * 100, "b"] for number in range(5)}
        lines = summarise(event(changes=changes))
        assert len(lines) == 4
        assert all(len(line) <= 80 for line in lines)
        assert lines[-1] == "and 2 more"


def test_a_digest_inside_a_payload_is_one_value():
    [(name, shown)] = show_payload({"file": to_json(b"abc")})
    assert name == "file"
    assert shown.kind == "digest"
