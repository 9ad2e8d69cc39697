"""``audit_prune``: what goes, what stays, and what is never lost on the way."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import stat
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files import locks
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.retention import pruning

from .conftest import Audit, events
from .processes import stage
from .samples import HOSTILE, make_event

pytestmark = [pytest.mark.slow, pytest.mark.django_db]


def prune(*arguments: str, **options: Any) -> str:
    """Return what ``audit_prune`` prints."""
    out = io.StringIO()
    call_command("audit_prune", *arguments, stdout=out, stderr=options.pop("stderr", io.StringIO()), **options)
    return out.getvalue()


def aged(days: float, **values: Any) -> AuditEvent:
    """Write an event that is so many days old."""
    return make_event(recorded_at=timezone.now() - dt.timedelta(days=days), **values)


def left() -> list[str]:
    """Return the names of the objects whose events are still there, oldest first."""
    found = AuditEvent.objects.exclude(event_type="events_pruned").order_by("recorded_at", "id")
    return list(found.values_list("object_repr", flat=True))


def lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    return list(map(json.loads, (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()))


class TestWhatGoes:
    def test_what_is_older_goes(self) -> None:
        aged(366, object_repr="old")
        aged(364, object_repr="young")
        assert prune("--older-than", "365d") == "1 event pruned.\n"
        assert left() == ["young"]

    def test_it_says_so_in_the_trail(self) -> None:
        first, last = aged(30), aged(20)
        prune("--older-than", "1w")
        (event,) = events()
        assert (event.event_type, event.source, event.context["command"]) == ("events_pruned", "manual", "audit_prune")
        assert event.data == {
            "count": 2,
            "first": first.recorded_at.isoformat(),
            "last": last.recorded_at.isoformat(),
            "older_than_seconds": 7 * 86400,
            "rule": None,
            "archive": None,
        }

    def test_the_retention_of_the_rules(self, audit: Audit) -> None:
        audit(
            {"name": "short", "model": "app.Tag", "retention": "30d"},
            {"name": "long", "model": "app.Product", "retention": "365d", "enabled": False},
            {"name": "ever", "model": "app.Category"},
        )
        for name, rules in {
            "short": ["short"],
            "short, long": ["short", "long"],
            "short, ever": ["short", "ever"],
            "ever": ["ever"],
            "unknown": ["short", "gone from the settings"],
            "none": [],
        }.items():
            aged(100, object_repr=name, rules=rules)
        aged(20, object_repr="too young", rules=["short"])
        aged(400, object_repr="long enough", rules=["long", "short"])
        assert prune() == "2 events pruned.\n"
        assert left() == ["short, long", "short, ever", "ever", "unknown", "none", "too young"]

    def test_a_longer_retention_than_asked_for(self, audit: Audit) -> None:
        audit(
            {"name": "short", "model": "app.Tag", "retention": "30d"},
            {"name": "long", "model": "app.Tag", "retention": "365d"},
        )
        for name, rules in {"short": ["short"], "long": ["long", "short"], "ever": ["ever"], "none": []}.items():
            aged(100, object_repr=name, rules=rules)
        aged(40, object_repr="asked for more", rules=["short"])
        prune("--older-than", "60d")
        assert left() == ["long", "asked for more"]

    def test_only_events_of_one_rule_go(self, audit: Audit) -> None:
        audit({"name": "a", "model": "app.Tag", "retention": "30d"}, {"name": "b", "model": "app.Tag"})
        for rules in (["a"], ["b"], ["a", "b"], []):
            aged(100, object_repr=", ".join(rules), rules=rules)
        prune("--rule", "a")
        assert left() == ["b", "a, b", ""]
        prune("--rule", "b", "--older-than", "1d")
        assert left() == [""]

    def test_a_rule_that_is_gone(self) -> None:
        aged(100, rules=["gone"])
        assert prune("--rule", "gone", "--older-than", "1d") == "1 event pruned.\n"

    def test_what_tells_of_prunes_stays(self, audit: Audit) -> None:
        aged(100, event_type="events_pruned", rules=["all"])
        prune("--older-than", "1d")
        assert AuditEvent.objects.count() == 1
        audit({"name": "all", "events": ["events_pruned"], "retention": "99d"})
        prune()
        (event,) = events()
        assert event.data["count"] == 1

    def test_more_than_a_batch(self) -> None:
        moment = timezone.now() - dt.timedelta(days=9)
        for number in range(7):
            make_event(recorded_at=moment if number % 2 else moment - dt.timedelta(seconds=number))
        assert prune("--older-than", "1d", batch_size=2) == "7 events pruned.\n"
        assert [event.data["count"] for event in events()] == [2, 2, 2, 1]
        assert len({event.correlation_id for event in events()}) == 1

    def test_a_dry_run(self, tmp_path: Path) -> None:
        aged(9)
        path = tmp_path / "archive"
        assert prune("--older-than", "1d", "--dry-run", "--archive", str(path)) == "1 event would be pruned.\n"
        assert len(events()) == 1
        assert not path.exists()

    def test_an_age_beyond_all_time(self) -> None:
        aged(9)
        assert prune("--older-than", "999999999d") == "0 events pruned.\n"

    @pytest.mark.django_db(databases=["default", "other"])
    def test_events_of_another_database_go(self) -> None:
        aged(9)
        AuditEvent.objects.using("other").create(
            event_type="x", source="manual", recorded_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        )
        prune("--older-than", "1d", "--database", "other")
        assert len(events()) == 1
        assert AuditEvent.objects.using("other").get().event_type == "events_pruned"


class TestNotifications:
    @pytest.mark.parametrize("status", ["sent", "skipped", "dead"])
    def test_finished_ones_go_with_their_event(self, status: str) -> None:
        Notification.objects.create(event=aged(9).uid, rule="r", channel="c", status=status)
        Notification.objects.create(event=aged(0).uid, rule="r", channel="c", status=status)
        prune("--older-than", "1d")
        assert Notification.objects.count() == 1

    @pytest.mark.parametrize("status", ["pending", "claimed", "failed"])
    def test_an_event_that_somebody_is_to_hear_of_stays(self, status: str) -> None:
        stays = [aged(9, object_repr="alone"), aged(8, object_repr="with others")]
        aged(7, object_repr="goes")
        Notification.objects.create(event=stays[0].uid, rule="r", channel="c", status=status)
        Notification.objects.create(event=stays[0].uid, rule="r", channel="c", status="sent")
        data = {"events": [str(stays[1].uid), str(uuid4())], "count": 2}
        Notification.objects.create(event=None, data=data, rule="r", channel="c", status=status)
        stderr = io.StringIO()
        assert prune("--older-than", "1d", stderr=stderr) == "1 event pruned.\n"
        assert left() == ["alone", "with others"]
        assert stderr.getvalue() == "2 events are kept until their notifications are sent or dead.\n"
        assert Notification.objects.count() == 3

    def test_one_about_several_goes_with_the_last_of_them(self) -> None:
        old, newer = aged(9), aged(5)
        data = {"events": [str(old.uid), str(newer.uid)], "count": 2}
        row = Notification.objects.create(event=None, data=data, rule="r", channel="c", status="sent")
        Notification.objects.filter(pk=row.pk).update(created=old.recorded_at)
        prune("--older-than", "7d")
        assert Notification.objects.count() == 1
        prune("--older-than", "1d")
        assert Notification.objects.count() == 0


@pytest.mark.parametrize("name", ["archive.jsonl", "archive.jsonl.gz"])
class TestArchive:
    def test_it_holds_every_column(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        event = aged(9, changes={"name": ["Zoë", HOSTILE]}, rules=["r"], actor_id="7")
        prune("--older-than", "1d", "--archive", str(path))
        (line,) = lines(path)
        assert line == {
            **{field.attname: getattr(event, field.attname) for field in AuditEvent._meta.concrete_fields},
            "uid": str(event.uid),
            "recorded_at": event.recorded_at.isoformat(),
        }
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert events(event_type="events_pruned")[0].data["archive"] == str(path)

    def test_an_archive_grows_with_each_run(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        uids = []
        for _ in range(2):
            uids.append(str(aged(9).uid))
            prune("--older-than", "1d", "--archive", str(path))
        assert [line["uid"] for line in lines(path)] == uids

    def test_a_batch_that_fails_is_not_lost(self, tmp_path: Path, name: str, monkeypatch: Any) -> None:
        path = tmp_path / name
        uids = [str(aged(9 - number).uid) for number in range(5)]
        original, calls = pruning.record_changes, []

        def fail_later(changes: Any, using: str) -> Any:
            calls.append(changes)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return original(changes, using)

        monkeypatch.setattr(pruning, "record_changes", fail_later)
        arguments = ("--older-than", "1d", "--archive", str(path), "--batch-size", "2")
        with pytest.raises(KeyboardInterrupt):
            prune(*arguments)
        assert len(left()) == 3
        assert [line["uid"] for line in lines(path)] == uids[:4]
        assert prune(*arguments) == "3 events pruned.\n"
        assert [line["uid"] for line in lines(path)] == [*uids[:4], *uids[2:]]

    @pytest.mark.parametrize("kept", [0, 3, 12, -7])
    def test_what_was_half_written_is_cut_off(self, tmp_path: Path, name: str, kept: int) -> None:
        path = tmp_path / name
        first, second = aged(9), aged(8)
        prune("--older-than", "8d", "--archive", str(path), batch_size=1)
        whole = path.read_bytes()
        torn = gzip.compress(b'{"id": 3, "uid": "x"}\n') if name.endswith(".gz") else b'{"id": 3, "uid": "x"}\n'
        path.write_bytes(whole + torn[:kept])
        prune("--older-than", "1d", "--archive", str(path))
        assert [line["uid"] for line in lines(path)] == [str(first.uid), str(second.uid)]
        path.write_bytes(torn[:kept])
        third = aged(7)
        prune("--older-than", "1d", "--archive", str(path))
        assert [line["uid"] for line in lines(path)] == [str(third.uid)]

    def test_another_file_is_left_alone(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        aged(9)
        for content in (b"precious", b"precious\n", b"\x1f\x8bprecious", gzip.compress(b"precious")):
            path.write_bytes(content)
            with pytest.raises(CommandError, match="is no archive of audit events") as caught:
                prune("--older-than", "1d", "--archive", str(path))
            assert caught.value.returncode == 2
            assert path.read_bytes() == content
        assert len(events()) == 1

    def test_one_writer_at_a_time(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        with path.open("ab") as file:
            assert locks.lock(file, locks.LOCK_EX)
            with pytest.raises(CommandError, match="is being written by another process"):
                prune("--older-than", "1d", "--archive", str(path))

    def test_a_full_disk(self, tmp_path: Path, name: str, monkeypatch: Any) -> None:
        def no_space(_: int) -> None:
            raise OSError(28, "No space left on device")

        aged(9)
        monkeypatch.setattr("os.fsync", no_space)
        with pytest.raises(CommandError, match="No space left on device") as caught:
            prune("--older-than", "1d", "--archive", str(tmp_path / name))
        assert caught.value.returncode == 1
        assert len(left()) == 1


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("name", ["archive.jsonl", "archive.jsonl.gz"])
def test_killed_at_every_point(tmp_path: Path, name: str) -> None:
    report = stage.run("prunes", databases=stage.databases(tmp_path), audit={}, path=str(tmp_path / name))
    assert report == {"left": 0, "missing": 0, "strangers": 0, "told": 40}


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "No retention is set for any rule. Set one, or write --older-than 365d."),
            (["--older-than", "a year"], "'a year' isn't an age. Write 12h, 365d, 104w, 6mo or 1y."),
            (
                ["--older-than", "1d", "--rule", "tgas"],
                "There is no rule 'tgas', and no event of one. Did you mean 'tags'?",
            ),
            (["--rule", "tags"], "No retention is set for tags."),
            (["--older-than", "1d", "--database", "dfault"], "There is no database 'dfault'. Did you mean 'default'?"),
            (["--older-than", "1d", "--batch-size", "0"], "--batch-size must be 1 to 10000."),
            (
                ["--older-than", "1d", "--archive", "/nowhere/a"],
                "Cannot write '/nowhere/a': No such file or directory.",
            ),
        ],
    )
    def test_mistakes_are_one_line(self, audit: Audit, arguments: list[str], message: str) -> None:
        audit({"name": "tags", "model": "app.Tag"})
        with pytest.raises(CommandError) as caught:
            prune(*arguments)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.returncode == 2

    def test_a_mistake_in_the_rules(self, audit: Audit) -> None:
        audit({"name": "tags", "model": "app.Tag", "retention": "long"})
        aged(9)
        with pytest.raises(
            CommandError, match=r'SIGNAL_AUDIT\["RULES"\]\[0\]\["retention"\] must be a duration'
        ) as caught:
            prune("--older-than", "1d")
        assert caught.value.returncode == 2
        assert len(events()) == 1

    @pytest.mark.parametrize("on_error", ["raise", "log"])
    def test_what_cannot_be_told_does_not_happen(self, audit: Audit, monkeypatch: Any, on_error: str) -> None:
        audit(ON_ERROR=on_error)
        aged(9)
        monkeypatch.setattr("django_signal_audit.recorder.insert_row", lambda *_: 1 / 0)
        with pytest.raises(CommandError, match="could not be recorded") as caught:
            prune("--older-than", "1d")
        assert caught.value.returncode == 1
        assert len(events()) == 1

    def test_progress_is_shown_on_a_terminal_only(self, monkeypatch: Any) -> None:
        for is_terminal in (False, True):
            aged(9)
            stderr = io.StringIO()
            monkeypatch.setattr(stderr, "isatty", lambda shown=is_terminal: shown, raising=False)
            monkeypatch.setattr(sys, "stderr", stderr)
            prune("--older-than", "1d")
            assert ("1/1" in stderr.getvalue()) is is_terminal
