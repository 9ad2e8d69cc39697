"""A send that does not come back: it has its time, and neither the worker nor its end waits for it."""

from __future__ import annotations

import datetime as dt
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from django_signal_audit.channels import load_channel
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.delivery.unknown import Left
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.signals import notification_failed

from .conftest import has_files_of_its_own
from .notices import CALLABLE, HERE, audit_settings, calling, make_notification
from .test_delivery_command import Project

FOREVER = 3600.0
HANGING_RECEIVER = """
import threading
from django.dispatch import receiver
from django_signal_audit.signals import notification_sent


@receiver(notification_sent)
def hang(**_):
    threading.Event().wait()
"""


@pytest.mark.slow
@has_files_of_its_own
class TestProcesses:
    def rows(self, project: Project) -> list[str]:
        code = (
            "import django; django.setup()\n"
            "from django_signal_audit.models import Notification\n"
            "for row in Notification.objects.order_by('pk'):\n"
            "    print(row.status, row.attempts, row.last_error)"
        )
        lines: list[str] = project.run("-c", code).splitlines()
        return lines

    @pytest.mark.parametrize("target", ["project.note", "project.note_async"])
    def test_a_worker_ends_within_its_grace_time_whatever_hangs(self, tmp_path: Path, target: str) -> None:
        project = Project(tmp_path, pause=FOREVER, target=target)
        project.fill(6)
        worker = project.start("--watch", "--grace", "1")
        project.wait_for(4)
        begin = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=20)
        assert time.monotonic() - begin < 4
        assert worker.returncode == 0, err
        assert out == "0 sent, 4 failed\n"
        why = "the worker was stopped before there was an answer; it may have been sent"
        assert self.rows(project) == [f"failed 1 {why}"] * 4 + ["pending 0 "] * 2

    def test_a_worker_ends_too_while_the_database_does_not_answer(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        project.fill(1)
        worker = project.start("--watch", "--grace", "1", "--interval", "0.1")
        project.wait_for(1)
        other = sqlite3.connect(tmp_path / "default.sqlite3", isolation_level=None, timeout=60)
        # Nothing can be read meanwhile, and the worker waits for two minutes.
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(1)
        begin = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        _out, err = worker.communicate(timeout=20)
        other.close()
        assert time.monotonic() - begin < 5
        assert worker.returncode == 1
        assert "Something does not answer" in err

    @pytest.mark.parametrize("target", ["project.note", "project.note_async"])
    def test_a_channel_that_is_tried_has_its_time_and_no_more(self, tmp_path: Path, target: str) -> None:
        project = Project(tmp_path, pause=FOREVER, target=target, SEND_TIMEOUT=1)
        worker = project.start("--test", "note")
        out, err = worker.communicate(timeout=20)
        assert (worker.returncode, out) == (1, "")
        assert err.endswith('The channel "note" could not send: no answer in 1 s; it may have been sent\n')
        assert len(project.sent()) == 1

    @pytest.mark.parametrize("target", ["project.note", "project.note_async"])
    def test_nobody_has_to_wait_for_it(self, tmp_path: Path, target: str) -> None:
        project = Project(tmp_path, pause=FOREVER, target=target)
        worker = project.start("--test", "note")
        project.wait_for(1)
        time.sleep(0.5)
        worker.send_signal(signal.SIGINT)
        _out, err = worker.communicate(timeout=20)
        assert worker.returncode == 130
        assert err.endswith("Interrupted.\n")

    @pytest.mark.parametrize("option", ["--health", "--stats"])
    def test_a_database_that_does_not_answer_is_not_waited_for(self, tmp_path: Path, option: str) -> None:
        project = Project(tmp_path)
        code = (
            "import django; django.setup()\n"
            "from django.core.management import execute_from_command_line as run\n"
            "from django_signal_audit.management.commands import audit_deliver\n"
            "audit_deliver.ANSWER_SECONDS = 1.0\n"
            f"run(['manage.py', 'audit_deliver', '{option}'])"
        )
        with closing(sqlite3.connect(tmp_path / "default.sqlite3", isolation_level=None, timeout=60)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            begin = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", code], env=project.environment, capture_output=True, text=True, check=False
            )
            assert time.monotonic() - begin < 10
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.endswith('CommandError: The database "default" did not answer within 1 s.\n')

    def test_a_receiver_that_hangs_has_that_time_too_and_its_message_stays_sent(self, tmp_path: Path) -> None:
        project = Project(tmp_path, SEND_TIMEOUT=0.5)
        with (tmp_path / "project.py").open("a") as file:
            file.write(HANGING_RECEIVER)
        project.fill(9)
        worker = project.start("--watch", "--concurrency", "2", "--grace", "1")
        _out, err = worker.communicate(timeout=20)
        assert worker.returncode == 5, err
        assert 'A thread that sends by channel "note" does not come back; another takes its place.' in err
        rows = self.rows(project)
        assert 4 <= rows.count("sent 1 ") == len(project.sent()) <= 5
        assert len(set(rows)) == 2

    def test_past_its_time_a_message_has_failed_and_its_channel_is_suspended(self, tmp_path: Path) -> None:
        # Longer than what counts as slow, by however little a clock may be off.
        project = Project(tmp_path, pause=FOREVER, SEND_TIMEOUT=2)
        project.fill(2)
        worker = project.start("--once", "--concurrency", "2")
        out, err = worker.communicate(timeout=20)
        assert worker.returncode == 0, err
        assert len(project.sent()) == 2
        assert out == "0 sent, 2 failed\n"
        assert self.rows(project) == ["failed 1 no answer in 2 s; it may have been sent"] * 2
        assert 'The channel "note" fails and is suspended' in err
        assert 'A thread that sends by channel "note" does not come back; another takes its place.' in err

    def test_a_worker_that_has_lost_too_many_threads_ends_for_its_supervisor(self, tmp_path: Path) -> None:
        project = Project(tmp_path, pause=FOREVER, SEND_TIMEOUT=0.5)
        project.fill(9)
        worker = project.start("--watch", "--concurrency", "2", "--grace", "1")
        _out, err = worker.communicate(timeout=20)
        assert worker.returncode == 5
        assert "Too many sends did not come back." in err
        assert 4 <= len(project.sent()) <= 5


@pytest.mark.django_db(transaction=True)
class TestInTheCallersThread:
    """The default dispatcher and task queues send in threads that are not ours to replace."""

    def test_the_row_fails_in_time_and_what_comes_after_is_dropped(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if connection.vendor == "sqlite":
            pytest.skip("threads of a test share the database in memory")
        settings.SIGNAL_AUDIT = audit_settings({"slow": calling("take", SEND_TIMEOUT=0.5)})
        row, told = make_notification(channel="slow"), threading.Event()

        def take(message: Any) -> None:
            assert told.wait(20)
            row.refresh_from_db()
            assert (row.status, row.last_error) == ("failed", "no answer in 0.5 s; it may have been sent")

        def tell(**_: Any) -> None:
            told.set()

        monkeypatch.setattr(f"{HERE}.take", take)
        notification_failed.connect(tell, weak=False)
        try:
            report = deliver()
        finally:
            notification_failed.disconnect(tell)
        assert (report.sent, report.failed, report.lost) == (0, 1, 1)
        assert Notification.objects.get().status == "failed"

    def test_what_was_claimed_with_a_slow_one_is_given_back_meanwhile(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if connection.vendor == "sqlite":
            pytest.skip("threads of a test share the database in memory")
        settings.SIGNAL_AUDIT = audit_settings()
        for _ in range(3):
            make_notification()
        seen: list[int] = []

        def take(message: Any) -> None:
            end = time.monotonic() + 10
            pending = Notification.objects.filter(status="pending", attempts=0)
            while not seen and pending.count() < 2 and time.monotonic() < end:
                time.sleep(0.05)
            seen.append(pending.count())

        monkeypatch.setattr(f"{HERE}.take", take)
        assert deliver().sent == 3
        assert seen[0] == 2


@pytest.mark.django_db
class TestWhatIsSeen:
    def hang(self, **ago: float) -> Notification:
        since = timezone.now() - dt.timedelta(**ago)
        later = utc_now() + dt.timedelta(minutes=1)
        return make_notification(channel="boom", status="claimed", status_changed=since, available_at=later)

    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        call_command("audit_deliver", *arguments)
        return capsys.readouterr().out

    @pytest.mark.parametrize("use_tz", [True, False])
    def test_health_names_what_hangs_by_which_channel_and_since_when(self, capsys, settings, use_tz):
        settings.USE_TZ = use_tz
        row = self.hang(seconds=42)
        make_notification(status="claimed", available_at=utc_now() + dt.timedelta(minutes=1))
        expected = rf'notification {row.pk} has been sending by channel "boom" for 4\d s \(since \d{{4}}-.* UTC\)\n'
        for option in ("--health", "--stats"):
            assert len(re.findall(expected, self.run(capsys, option))) == 1
        assert "oldest has been due for 4" in self.run(capsys, "--health")

    def test_one_that_has_been_sending_for_too_long_is_an_alarm(self, capsys):
        self.hang(minutes=6)
        with pytest.raises(SystemExit) as ended:
            self.run(capsys, "--health")
        assert ended.value.code == 4

    def test_figures_for_prometheus(self, capsys):
        row = self.hang(minutes=2)
        make_notification(channel='a "quoted" one', available_at=utc_now() - dt.timedelta(seconds=30))
        lines = self.run(capsys, "--stats", "--format", "prometheus").splitlines()
        assert 'signal_audit_notifications{database="default",status="pending"} 1' in lines
        assert "# TYPE signal_audit_notifications gauge" in lines
        assert 'signal_audit_expired_leases{database="default"} 0' in lines
        named = f'signal_audit_long_send_seconds{{database="default",channel="boom",notification="{row.pk}"}} 12'
        assert [line for line in lines if line.startswith(named)]
        assert all(re.fullmatch(r'# .*|\w+(\{(\w+="[^"]*",?)+\})? [\d.e+-]+', line) for line in lines)

    def test_large_counts_have_all_their_digits(self, capsys, monkeypatch):
        left = Left("rule", "channel", 12_345_678, utc_now())
        monkeypatch.setattr("django_signal_audit.delivery.statistics.left_to_others", lambda using: [left])
        lines = self.run(capsys, "--stats", "--format", "prometheus").splitlines()
        assert 'signal_audit_left_to_others{database="default"} 12345678' in lines


class TestOption:
    def channel(self, **options: Any) -> Any:
        return load_channel("it", {"BACKEND": CALLABLE, "OPTIONS": {"target": f"{HERE}.take", **options}})

    def test_a_minute_unless_the_settings_or_the_channel_say_otherwise(self):
        assert self.channel().send_timeout == 60
        with override_settings(SIGNAL_AUDIT={"SEND_TIMEOUT": 10}):
            assert self.channel().send_timeout == 10
            assert self.channel(SEND_TIMEOUT=2.5).send_timeout == 2.5
            assert self.channel(send_timeout=2).send_timeout == 2

    def test_a_channel_with_a_longer_timeout_of_its_own_may_use_it(self):
        assert self.channel(timeout=20).send_timeout == 60
        assert self.channel(timeout=120).send_timeout == 125

    @pytest.mark.parametrize("value", [0, -1, "60", True, None, 1e9])
    def test_anything_else_is_a_mistake(self, value):
        (problem,) = self.channel(SEND_TIMEOUT=value).check()
        assert "must be seconds, more than 0, at most a day" in problem.msg
        with override_settings(SIGNAL_AUDIT={"SEND_TIMEOUT": value}):
            assert self.channel().send_timeout == 60

    @pytest.mark.parametrize(
        ("value", "hint"),
        [
            ("60s", "It is '60s'. Write 60."),
            (dt.timedelta(minutes=1), "It is datetime.timedelta(seconds=60). Write 60."),
            (Decimal(5), "It is Decimal('5'). Write 5."),
            ("2d", "It is '2d'."),
            (10**9, "It is 1000000000."),
            ("soon", "It is 'soon'."),
        ],
    )
    def test_the_hint_is_what_to_write_where_it_is_known(self, value: object, hint: str) -> None:
        (problem,) = self.channel(SEND_TIMEOUT=value).check()
        assert problem.hint == hint

    def test_a_number_that_is_too_large_is_not_proposed_again(self) -> None:
        with override_settings(SIGNAL_AUDIT={"SEND_TIMEOUT": 10**9}):
            assert [problem.hint for problem in check_rules()] == ["It is 1000000000."]

    def test_a_misspelt_one_is_found(self):
        with override_settings(SIGNAL_AUDIT=audit_settings({"it": calling("take", SEND_TIMOUT=2)})):
            (problem,) = check_plugins()
            assert "Did you mean 'SEND_TIMEOUT'?" in problem.hint
