from __future__ import annotations

import datetime as dt
import io
import json
import re
import tracemalloc

import pytest
from django.core.management import CommandError, call_command

from django_signal_audit.events.values import mask
from django_signal_audit.models import AuditEvent

from .samples import HOSTILE, NOON, make_event

pytestmark = pytest.mark.django_db


def run(*arguments):
    """Return what ``audit_history`` prints."""
    out = io.StringIO()
    call_command("audit_history", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def life():
    """Write the life of a user: created, changed, given a group, deleted; and one event of somebody else."""
    hour = dt.timedelta(hours=1)
    password = [None, mask("auth.user.password", "secret")]
    make_event(
        event_type="create",
        recorded_at=NOON,
        changes={"email": [None, "a@x"], "is_staff": [None, False], "password": password},
    )
    make_event(
        recorded_at=NOON + hour,
        changes={"email": ["a@x", "b@x"]},
        actor_id="7",
        actor_repr="root",
        context={"reason": "asked by phone"},
    )
    make_event(event_type="m2m", recorded_at=NOON + 2 * hour, changes={"groups": {"added": [5, 3], "removed": []}})
    make_event(
        event_type="delete",
        recorded_at=NOON + 3 * hour,
        changes={"email": ["b@x", None], "is_staff": [False, None], "password": password[::-1]},
    )
    make_event(object_id="33", changes={"email": ["no", "other"]})


@pytest.mark.usefixtures("life")
class TestLife:
    def test_the_whole_life_of_a_deleted_object_in_order(self):
        out = run("auth.User", "3")
        assert out.startswith("auth.user 3 (ada)\n")
        positions = [out.index(word) for word in ("create", "asked by phone", "+5, +3", "delete")]
        assert positions == sorted(positions)
        assert "Email address: a@x → b@x" in out
        assert "2026-03-10 14:00:00+01:00" in out
        assert "root" in out
        assert "Password: masked" in out
        assert "other" not in out

    def test_machines_get_the_changes_themselves(self):
        events = json.loads(run("auth.User", "3", "--format", "json"))
        assert [event["event"] for event in events] == ["create", "update", "m2m", "delete"]
        assert events[1] == {
            "time": "2026-03-10T14:00:00+01:00",
            "event": "update",
            "actor": "root",
            "reason": "asked by phone",
            "changes": {"email": ["a@x", "b@x"]},
        }

    def test_a_key_may_be_written_in_any_way_the_field_reads(self):
        assert run("auth.user", "003") == run("auth.user", "3")


@pytest.mark.usefixtures("life")
class TestState:
    def test_what_it_was_at_a_moment(self):
        out = run("auth.User", "3", "--at", "2026-03-10T15:30")
        assert out.startswith("auth.user 3 (ada) at 2026-03-10 15:30:00+01:00\n")
        assert [line.split(maxsplit=1)[0] for line in out.splitlines()[4:]] == [
            "password",
            "email",
            "is_staff",
            "groups",
        ]
        state = json.loads(run("auth.User", "3", "--at", "2026-03-10T15:30", "--format", "json"))
        assert {row["field"]: row["value"] for row in state} == {
            "email": "b@x",
            "is_staff": False,
            "password": "masked",
            "groups": [3, 5],
        }

    def test_fields_of_which_changes_are_left_out_say_so(self, audit):
        audit({"name": "users", "model": "auth.User", "exclude": ["is_staff"]})
        out = run("auth.User", "3", "--at", "2026-03-10T15:30")
        assert "Staff status (not every change recorded)" in out
        assert out.count("not every change recorded") == 1

    @pytest.mark.parametrize("moment", ["2026-03-10T12:59", "2026-03-10T16:00"])
    def test_when_it_was_not_there(self, moment):
        assert "did not exist" in run("auth.User", "3", "--at", moment)
        assert run("auth.User", "3", "--at", moment, "--format", "json") == "[]\n"

    def test_a_model_that_is_gone_has_events_but_no_state(self):
        make_event(model="old.thing", object_id="x/1", changes={"price": ["1", "2"]})
        assert "price: 1 → 2" in run("old.Thing", "x/1")
        with pytest.raises(CommandError, match=r"'old\.thing' is gone from the project"):
            run("old.Thing", "x/1", "--at", "1h")


def test_an_unknown_object_is_one_line_and_exit_code_1():
    with pytest.raises(CommandError, match=r"^No events are recorded for auth.user '4'.$") as caught:
        run("auth.User", "4")
    assert caught.value.returncode == 1


def test_hostile_values_stay_text():
    make_event(object_repr=HOSTILE, actor_repr=HOSTILE, context={"reason": HOSTILE}, changes={"email": ["", HOSTILE]})
    for alias in ("table", "csv", "markdown", "json", "jsonl"):
        assert not set(run("auth.User", "3", "--format", alias)) & {"\x1b", "\u202e"}, alias


class TestLongHistories:
    def fill(self, count):
        AuditEvent.objects.bulk_create(
            AuditEvent(
                event_type="update", source="orm", model="auth.user", object_id="3", object_repr="ada",
                changes={"email": [f"{number}@{'x' * 1000}", f"{number + 1}@{'x' * 1000}"]},
            )
            for number in range(count)
        )  # fmt: skip

    @pytest.mark.parametrize("kind", ["table", "csv", "json", "jsonl", "markdown", "html"])
    def test_they_are_written_while_they_are_read(self, kind, monkeypatch):
        monkeypatch.setattr("django_signal_audit.reports.base.BATCH", 50)
        monkeypatch.setattr("django_signal_audit.reports.history.BATCH", 50)
        self.fill(1000)

        class Counting(io.StringIO):
            written = 0

            def write(self, text):
                Counting.written += len(text)
                return len(text)

        tracemalloc.start()
        call_command("audit_history", "auth.User", "3", "--format", kind, stdout=Counting())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert Counting.written > 1_900_000
        # 50 events at a time, of 2 kB each and several times that while a table is laid out.
        assert peak < 3_000_000, peak

    def test_every_row_is_there_once(self, monkeypatch, tmp_path):
        monkeypatch.setattr("django_signal_audit.reports.base.BATCH", 3)
        monkeypatch.setattr("django_signal_audit.reports.history.BATCH", 3)
        self.fill(7)
        out = io.StringIO()
        call_command("audit_history", "auth.User", "3", "--format", "html", stdout=out)
        assert re.findall(r'<tr id="row-(\d)"', out.getvalue()) == list("1234567")
        path = tmp_path / "history.jsonl"
        call_command("audit_history", "auth.User", "3", "--format", "jsonl", "--output", str(path), stdout=out)
        assert len(path.read_text().splitlines()) == 7
        assert out.getvalue().endswith(f"7 rows written to {path}\n")
