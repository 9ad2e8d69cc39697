"""Whatever goes wrong with a command is one line on the standard error, and never a traceback."""

from __future__ import annotations

import os
import pkgutil
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class
from django.db import OperationalError, connection, connections

from django_signal_audit.management import commands
from django_signal_audit.management.base import AuditCommand

from .conftest import Audit
from .docs_blocks import ROOT
from .samples import make_event

COMMANDS = sorted(item.name for item in pkgutil.iter_modules(commands.__path__))
# What each of them needs to get as far as its work.
NEEDS = {
    "audit_import": ["simple_history"],
    "audit_loaddata": ["rows.json", "--reason", "a test"],
    "audit_history": ["app.Tag", "1"],
    "audit_prune": ["--older-than", "1d"],
    "audit_erase": ["--subject", "app.Tag", "1"],
}
# Of these 1 says that something differs, or is not there.
TWO_FOR_A_DATABASE = {
    "audit_replay",
    "audit_seal",
    "audit_verify",
    "audit_prove",
    "audit_erase",
    "audit_hold",
    "audit_harden",
}
# Django's own checks ask all databases what they can.
everywhere = pytest.mark.django_db(databases=["default", "other"])
SETTINGS = """
from tests.settings import *

DATABASES = {{"default": {database}}}
SIGNAL_AUDIT = {{"RULES": [{{"name": "r", "model": "app.Tag"}}]}}
"""


def arguments_of(name: str) -> list[str]:
    return NEEDS.get(name, [])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command as ``manage.py`` does, and return its exit code, output and errors."""
    monkeypatch.setattr(connections, "close_all", lambda: None)  # the test goes on with them

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        code = 0
        command = load_command_class("django_signal_audit", name)
        try:
            command.run_from_argv(["manage.py", name, *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def test_every_command_has_the_common_base() -> None:
    assert len(COMMANDS) >= 8
    for name in COMMANDS:
        command = load_command_class("django_signal_audit", name)
        assert isinstance(command, AuditCommand), name
        assert command.exit_codes, name


@everywhere
@pytest.mark.parametrize("name", COMMANDS)
class TestEachCommand:
    def test_ctrl_c_ends_a_command_with_130(self, name: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(type(load_command_class("django_signal_audit", name)), "handle", interrupted)
        assert run(name, *arguments_of(name)) == (130, "", "Interrupted.\n")

    def test_what_nobody_expected(self, name: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise LookupError("two\nlines")

        monkeypatch.setattr(type(load_command_class("django_signal_audit", name)), "handle", broken)
        code, out, err = run(name, *arguments_of(name))
        assert (code, out) == (1, "")
        assert err == "LookupError: two lines (--traceback shows where)\n"
        with pytest.raises(LookupError):
            run(name, *arguments_of(name), "--traceback")

    def test_a_database_that_goes_away(self, name: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(*_: Any, **__: Any) -> None:
            raise OperationalError("connection refused\n\tIs the server running?")

        monkeypatch.setattr(type(load_command_class("django_signal_audit", name)), "handle", away)
        code, out, err = run(name, *arguments_of(name))
        assert (code, out) == (2 if name in TWO_FOR_A_DATABASE else 1, "")
        assert err.count("\n") == 1
        assert 'The database "default" cannot be used: connection refused Is the server running?' in err

    def test_an_option_that_is_none(self, name: str, run: Any) -> None:
        code, out, err = run(name, *arguments_of(name), "--databse=default")
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert err.endswith("unrecognized arguments: --databse=default. Did you mean '--database'?\n")

    def test_a_database_that_is_none(self, name: str, run: Any) -> None:
        code, _, err = run(name, *arguments_of(name), "--database", "defualt")
        assert code in (1, 2)
        assert err.count("\n") == 1
        assert "Did you mean 'default'?" in err

    def test_mistakes_in_the_settings_are_listed_as_every_command_of_django_lists_them(
        self, name: str, run: Any, audit: Audit
    ) -> None:
        audit({"name": "r", "model": "app.Tagg"})
        if load_command_class("django_signal_audit", name).requires_system_checks:
            code, out, err = run(name, *arguments_of(name))
            assert (code, out) == (1, "")
            assert err.splitlines()[0] == "SystemCheckError: System check identified some issues:"
            assert err.splitlines()[3].startswith("?: (django_signal_audit.E009) ")

    def test_a_closed_pipe(self, name: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def closed(*_: Any, **__: Any) -> None:
            raise BrokenPipeError

        monkeypatch.setattr("django_signal_audit.management.base.discard_output", lambda: None)
        monkeypatch.setattr(type(load_command_class("django_signal_audit", name)), "handle", closed)
        assert run(name, *arguments_of(name)) == (0, "", "")


@everywhere
class TestValues:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["audit_report", "--by", "user"], "Did you mean 'actor'?"),
            (["audit_report", "--by", "date"], "Did you mean 'day'?"),
            (["audit_report", "--by", "modle"], "Did you mean 'model'?"),
            (["audit_report", "--event", "creat"], "There is no event 'creat'. Did you mean 'create'?"),
            (["audit_report", "--event", "change"], "Did you mean 'update'?"),
            (["audit_report", "--rule", "evrything"], "Did you mean 'everything'?"),
            (["audit_report", "--level", "error"], "Did you mean 'critical'?"),
            (["audit_report", "--format", "md"], "Did you mean 'markdown'?"),
            (["audit_report", "--model", "app_product"], "Did you mean 'app.Product'?"),
            (["audit_report", "--since", "yesterday"], "isn't a valid date"),
            (["audit_report", "--since", "9" * 5000 + "d"], "isn't a valid date"),
            (["audit_report", "--output", "/nowhere/x"], "Cannot write '/nowhere/x'"),
            (["audit_export", "--event", "updat"], "Did you mean 'update'?"),
            (["audit_export", "--format", "ocfs"], "Did you mean 'ocsf'?"),
            (["audit_history", "app.Prodct", "1"], "Did you mean 'app.product'?"),
            (["audit_history", "app.Tag", "9" * 400], "No events are recorded"),
            (["audit_history", "app.Line", "7"], 'a JSON list with the values of "order", "number".'),
            (["audit_rules", "--explain", "app.Tag", "change"], "Did you mean 'update'?"),
            (["audit_rules", "--format", "tabel"], "Did you mean 'table'?"),
            (["audit_replay", "--format", "jsno"], "Did you mean 'json'?"),
            (["audit_replay", "app.Tga"], "Did you mean 'app.tag'?"),
            (["audit_baseline", "--batch-size", "0"], "--batch-size must be at least 1."),
            (["audit_baseline", "--batch-size", "9" * 30], "--batch-size must be at most"),
            (["audit_baseline", "--batch-size", "many"], "invalid int value: 'many'"),
            (["audit_prune", "--older-than", "6m"], "write 6mo for months"),
            (["audit_prune", "--older-than", "1d", "--rule", "evrything"], "Did you mean 'everything'?"),
            (["audit_deliver", "--limit", "0"], "--limit must be at least 1."),
            (["audit_deliver", "--interval", "nan"], "--interval must be more than 0"),
            (["audit_deliver", "--interval", "inf"], "--interval must be at most"),
            (["audit_deliver", "--max-age", "soon"], "--max-age must be a duration"),
            (["audit_deliver", "--wach"], "Did you mean '--watch'?"),
        ],
    )
    def test_a_wrong_value_is_one_line(self, audit: Audit, run: Any, arguments: list[str], message: str) -> None:
        audit({"name": "everything", "model": "app.*"})
        code, out, err = run(*arguments)
        assert code in (1, 2)
        assert out == ""
        assert err.count("\n") == 1
        assert message in err

    def test_an_event_that_only_the_past_knows(self, run: Any) -> None:
        make_event(event_type="seen_long_ago")
        code, out, _ = run("audit_report", "--event", "seen_long_ago")
        assert code == 0
        assert "seen_long_ago" in out


def start(tmp_path: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    database["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}  # type: ignore[assignment]
    (tmp_path / "own_settings.py").write_text(SETTINGS.format(database=options.pop("database", database)))
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "own_settings"}
    command = [sys.executable, "-m", "django", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **pipes)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    return process.returncode, out, err


def wait_for_handlers(pid: int) -> None:
    """Wait until a process has a handler of SIGTERM."""
    for _ in range(600):
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
        if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.1)
    pytest.fail("the worker never began")


@pytest.mark.slow
class TestProcesses:
    @pytest.mark.parametrize("name", ["audit_report", "audit_deliver", "audit_replay", "audit_prune"])
    def test_tables_that_are_missing(self, tmp_path: Path, name: str) -> None:
        code, out, err = end(start(tmp_path, name, *arguments_of(name), "--skip-checks"))
        assert code in (1, 2)
        assert out == ""
        assert err.count("\n") == 1

    def test_a_server_that_is_away(self, tmp_path: Path) -> None:
        if connection.vendor == "sqlite":
            pytest.skip("there is no server to be away")
        database = {**connection.settings_dict, "HOST": "127.0.0.1", "PORT": "1"}
        code, out, err = end(start(tmp_path, "audit_report", database=database))
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert "cannot be used" in err

    def test_a_reader_that_has_seen_enough(self, tmp_path: Path) -> None:
        process = start(tmp_path, "audit_rules")
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        assert end(process)[::2] == (0, "")

    def test_a_closed_standard_output_is_no_error(self, tmp_path: Path) -> None:
        process = start(tmp_path, "audit_rules", stdout=None, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1))
        code, _, err = end(process)
        assert (code, err) == (0, "")

    def test_a_disk_that_is_full(self, tmp_path: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full")
        with Path("/dev/full").open("w") as full:
            code, _, err = end(start(tmp_path, "audit_rules", stdout=full))
        assert code == 1
        assert err == "The output cannot be written: No space left on device.\n"

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_worker_that_is_told_to_end(self, tmp_path: Path, number: int) -> None:
        assert end(start(tmp_path, "migrate", "--run-syncdb", "--verbosity", "0"))[0] == 0
        process = start(tmp_path, "audit_deliver", "--watch", "--interval", "1")
        wait_for_handlers(process.pid)
        process.send_signal(number)
        assert end(process)[::2] == (0, "")

    def test_a_worker_whose_tables_go_away_says_so_line_by_line(self, tmp_path: Path) -> None:
        assert end(start(tmp_path, "migrate", "--run-syncdb", "--verbosity", "0"))[0] == 0
        process = start(tmp_path, "audit_deliver", "--watch", "--interval", "1")
        wait_for_handlers(process.pid)
        with closing(sqlite3.connect(tmp_path / "db.sqlite3", timeout=20)) as database:
            database.execute("ALTER TABLE django_signal_audit_notification RENAME TO away")
            database.commit()
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        code, _, err = end(process)
        assert code == 0
        assert "no such table" in err
        assert all(
            re.match(r"\S.*: no such table: django_signal_audit_notification$", line) for line in err.splitlines()
        )

    def test_a_mistake_in_the_settings_is_named_once(self, tmp_path: Path) -> None:
        process = start(tmp_path, "--version")
        end(process)
        settings = tmp_path / "own_settings.py"
        # Of another length: within one second, Python would take a text as long for the one that it compiled.
        settings.write_text(settings.read_text().replace('"app.Tag"', '"app.Nowhere"'))
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        for name in ("check", "audit_deliver"):
            command = [sys.executable, "-m", "django", name, "--settings", "own_settings"]
            done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert done.stderr.count("app.Nowhere") == 1
