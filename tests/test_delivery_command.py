from __future__ import annotations

import datetime as dt
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from django_signal_audit.management.stopping import stop_signals
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now

from .conftest import has_files_of_its_own
from .notices import audit_settings, make_event, make_notification, receiving
from .processes import stage

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = audit_settings()
    with receiving() as messages:
        yield messages


def run(capsys, *arguments):
    call_command("audit_deliver", *arguments)
    return capsys.readouterr()


@pytest.mark.django_db
class TestOnce:
    def test_it_sends_until_nothing_is_due(self, capsys, messages):
        event = make_event()
        for channel in ("take", "take", "boom"):
            make_notification(event, channel)
        shown = run(capsys)
        assert shown.out == "2 sent, 1 failed\n"
        assert shown.err == ""  # no progress bar in a pipe
        assert len(messages) == 2
        assert run(capsys, "--once").out == "0 sent\n"

    def test_a_limit_ends_the_run(self, capsys, messages):
        event = make_event()
        for _ in range(3):
            make_notification(event)
        assert run(capsys, "--limit", "2").out == "2 sent\n"

    def test_giving_up_is_exit_code_3(self, capsys):
        make_notification(channel="never")
        with pytest.raises(SystemExit) as ended:
            run(capsys)
        assert ended.value.code == 3
        assert capsys.readouterr().out == "0 sent, 1 dead\n"

    def test_the_dead_are_retried_when_asked(self, capsys):
        make_notification(status="dead", attempts=10)
        assert run(capsys).out == "0 sent\n"
        assert run(capsys, "--retry-dead").out == "1 dead notification queued again.\n1 sent\n"

    def test_a_bar_on_a_terminal(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        make_notification()
        assert "1/1" in run(capsys).err

    def test_stats_count_by_status(self, capsys):
        make_notification(channel="take")
        make_notification(status="dead")
        shown = run(capsys, "--stats").out
        assert re.search(r"^pending +1$", shown, re.MULTILINE)
        assert re.search(r"^dead +1$", shown, re.MULTILINE)
        assert re.search(r"^oldest pending: due for \d+ s$", shown, re.MULTILINE)
        Notification.objects.all().delete()
        assert "oldest pending: none" in run(capsys, "--stats").out

    def test_stats_count_what_was_suppressed_what_waits_and_what_lapsed(self, capsys):
        make_notification(status="skipped", last_error="Throttled: too many")
        make_notification(status="skipped", last_error="There is no user.")
        make_notification(digest_key="key")
        make_notification(status="claimed")
        make_notification(status="claimed", available_at=utc_now() + dt.timedelta(hours=1))
        shown = run(capsys, "--stats").out
        assert "pending in a digest: 1\n" in shown
        assert "skipped by a throttle: 1\n" in shown
        assert "expired leases: 1\n" in shown

    @pytest.mark.parametrize("status", ["pending", "failed", "claimed"])
    def test_health_is_an_exit_code(self, capsys, status):
        assert run(capsys, "--health").out == "nothing is due\n"
        row = make_notification(status=status, available_at=utc_now() + dt.timedelta(hours=1))
        assert run(capsys, "--health").out == "nothing is due\n"
        Notification.objects.filter(pk=row.pk).update(available_at=utc_now() - dt.timedelta(minutes=6))
        assert re.fullmatch(r"the oldest has been due for 36\d s\n", run(capsys, "--health", "--max-age", "10m").out)
        with pytest.raises(SystemExit) as ended:
            run(capsys, "--health")
        assert ended.value.code == 4

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--database", "nowhere"], 'There is no database "nowhere" in DATABASES. Known are: default, other.'),
            (["--limit", "0"], "--limit must be at least 1."),
            (["--watch", "--interval", "0"], "--interval must be more than 0 seconds."),
            (["--once", "--watch"], "not allowed with"),
            (["--format", "prometheus"], "--format goes with --stats."),
            (["--discard-pending", "--watch"], "--discard-pending doesn't go with --watch: run one after the other."),
            (["--confirm-database", "--stats"], "--confirm-database doesn't go with --stats"),
            (["--discard-pending", "--retry-dead"], "--discard-pending doesn't go with --retry-dead."),
            (["--stats", "--channel", "take"], "--channel and --exclude-channel say what"),
            (["--confirm-database", "--channel", "take"], "--channel and --exclude-channel say what"),
            (["--health", "--max-age", "soon"], '--max-age must be a duration such as "90s" or "5m", not "soon".'),
        ],
    )
    def test_wrong_options_are_one_line(self, capsys, arguments, expected):
        with pytest.raises(CommandError, match=re.escape(expected)) as error:
            run(capsys, *arguments)
        assert "\n" not in str(error.value)

    def test_health_of_a_worker_of_its_own_is_that_of_its_channels(self, capsys):
        late = utc_now() - dt.timedelta(hours=1)
        make_notification(channel="take", available_at=late)
        assert run(capsys, "--health", "--channel", "boom").out == "nothing is due\n"
        assert run(capsys, "--health", "--exclude-channel", "take").out == "nothing is due\n"
        with pytest.raises(SystemExit, match="4"):
            run(capsys, "--health", "--channel", "take")

    def test_help_tells_the_exit_codes(self, capsys):
        with pytest.raises(SystemExit):
            run(capsys, "--help")
        assert "  3  at least one notification became dead" in capsys.readouterr().out


def test_the_first_signal_asks_and_the_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(2)
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


PROJECT = """
from tests.databases import database

SECRET_KEY = "project"
USE_TZ = True
INSTALLED_APPS = ["django_signal_audit", "django.contrib.auth", "django.contrib.contenttypes"]
DATABASES = {"default": {**database("sqlite://"), "NAME": %(path)r + "/default.sqlite3"}}
SIGNAL_AUDIT = {
    "RULES": [{"name": "x", "events": ["told"], "notify": ["note"]}],
    "CHANNELS": {"note": {
        "BACKEND": "django_signal_audit.channels.callable.CallableChannel", "OPTIONS": %(options)r,
    }},
}


async def note_async(message):
    note(message)


def note(message):
    import time
    with open(%(path)r + "/sent.txt", "a") as file:
        file.write(message.id + chr(10))
    time.sleep(%(pause)r)
"""


class Project:
    """A project of its own on SQLite, whose commands run as processes."""

    def __init__(self, path, pause=0.0, **options):
        self.path = path
        options = {"target": "project.note", **options}
        (path / "project.py").write_text(PROJECT % {"path": str(path), "pause": pause, "options": options})
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project",
            "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]),
        }
        stage.databases(path)

    def run(self, *arguments):
        done = subprocess.run(
            [sys.executable, *arguments], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "django", "audit_deliver", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fill(self, count):
        self.run(
            "-c",
            "import django; django.setup()\n"
            "from django_signal_audit.models import AuditEvent, Notification\n"
            "event = AuditEvent.objects.create(event_type='update', source='orm')\n"
            f"rows = (Notification(event=event.uid, rule='x', channel='note') for _ in range({count}))\n"
            "Notification.objects.bulk_create(rows)",
        )

    def sent(self):
        file = self.path / "sent.txt"
        return file.read_text().split() if file.exists() else []

    def wait_for(self, count):
        give_up = time.monotonic() + 30
        while len(self.sent()) < count and time.monotonic() < give_up:
            time.sleep(0.02)
        assert len(self.sent()) >= count


@pytest.mark.slow
@has_files_of_its_own
class TestProcesses:
    def test_a_watcher_ends_well_on_sigterm_and_gives_back_what_it_had_not_begun(self, tmp_path):
        project = Project(tmp_path, pause=0.3)
        project.fill(30)
        watcher = project.start("--watch", "--interval", "0.1")
        project.wait_for(2)
        watcher.send_signal(signal.SIGTERM)
        out, err = watcher.communicate(timeout=20)
        assert watcher.returncode == 0, err
        count = len(project.sent())
        assert count < 30
        assert out == f"{count} sent\n"
        stats = project.run("-m", "django", "audit_deliver", "--stats")
        assert re.search(rf"^pending +{30 - count}$", stats, re.MULTILINE)
        assert re.search(r"^claimed +0$", stats, re.MULTILINE)

    def test_two_workers_send_each_message_once(self, tmp_path):
        project = Project(tmp_path, pause=0.002)
        project.fill(300)
        workers = [project.start("--watch", "--interval", "0.1") for _ in range(2)]
        project.wait_for(300)
        outs = []
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            out, err = worker.communicate(timeout=20)
            assert worker.returncode == 0, err
            outs.append(out)
        assert len(project.sent()) == len(set(project.sent())) == 300
        stats = project.run("-m", "django", "audit_deliver", "--stats")
        assert re.search(r"^sent +300$", stats, re.MULTILINE)

    def test_what_a_killed_worker_held_is_sent_once_its_claim_has_lapsed(self, tmp_path):
        project = Project(tmp_path, pause=0.2)
        project.fill(5)
        worker = project.start()
        project.wait_for(2)
        worker.kill()
        worker.communicate()
        project.run(
            "-c",
            "import django; django.setup()\n"
            "from django_signal_audit.models import Notification\n"
            "from django.utils.timezone import now\n"
            "assert Notification.objects.filter(status='claimed').update(available_at=now())",
        )
        project.run("-m", "django", "audit_deliver")
        sent = project.sent()
        assert len(set(sent)) == 5
        assert len(sent) <= 5 + 4  # those that were under way may come twice, with the same id
