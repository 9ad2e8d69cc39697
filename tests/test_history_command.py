from __future__ import annotations

import datetime as dt
import io
import json

import pytest
from django.core.management import CommandError, call_command

from django_signal_audit.events.values import mask

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
