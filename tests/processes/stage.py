"""Processes that share a database: what a test starts, and how what it started forks and reports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from django.db import connections

ROOT = Path(__file__).resolve().parents[2]
THOROUGH = os.environ.get("AUDIT_TEST_THOROUGH") == "1"

LOG = {"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}}
WORKER = "django_signal_audit.dispatchers.WorkerDispatcher"
# Everything is recorded and everything is told to somebody.
EVERYTHING = {
    "RULES": [{"name": "all", "model": "app.*", "notify": ["log"]}],
    "CHANNELS": LOG,
    "DISPATCHER": WORKER,
}


def choose(quick: int, thorough: int) -> int:
    """Return how much is done: AUDIT_TEST_THOROUGH=1 asks for more."""
    return thorough if THOROUGH else quick


def run(module: str, **arguments: Any) -> Any:
    """Run a module of this package in a process of its own and return what it reports.

    Args:
        module: Its name, ``"kills"``.
        arguments: What its ``main`` gets, and ``databases``, ``audit`` (the rules) and ``settings`` (more of them).

    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.processes", module],
        input=json.dumps(arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=choose(1200, 7200),
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def databases(folder: Path, **options: Any) -> dict[str, Any]:
    """Return DATABASES for another process: the test's own on a server, new files for SQLite.

    Args:
        folder: Where the files go.
        options: OPTIONS of the default alias; None takes a key out.

    """
    if connections["default"].vendor == "sqlite":
        return {alias: _file_database(alias, folder, options) for alias in ("default", "other")}
    found = {}
    for alias in ("default", "other"):
        entry = connections[alias].settings_dict
        found[alias] = {key: entry[key] for key in ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")}
        found[alias]["OPTIONS"] = _merged({}, options)
    return found


def _file_database(alias: str, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    path = folder / f"{alias}.sqlite3"
    shutil.copy(Path(_template().name) / path.name, path)
    merged = _merged({"transaction_mode": "IMMEDIATE", "timeout": 120}, options)
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": merged}


def _merged(defaults: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**defaults, **options}.items() if value is not None}


@cache
def _template() -> tempfile.TemporaryDirectory[str]:
    """Return a folder with empty databases that have all tables; they are made once."""
    folder = tempfile.TemporaryDirectory(prefix="audit-")
    entries = {
        alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(folder.name) / f"{alias}.sqlite3")}
        for alias in ("default", "other")
    }
    run("tables", databases=entries, audit={})
    return folder


def configure(databases: dict[str, Any], audit: dict[str, Any], **more: Any) -> None:
    """Set Django up like the test suite, on these databases and with these rules."""
    import django
    from django.conf import settings

    from tests import settings as base

    values = {name: getattr(base, name) for name in dir(base) if name.isupper()}
    settings.configure(**{**values, "DATABASES": databases, "SIGNAL_AUDIT": audit, **more})
    django.setup()


class Child:
    """A forked process, which connects to the databases by itself and reports what its work returns."""

    def __init__(self, work: Callable[[], Any]) -> None:
        connections.close_all()
        sys.stdout.flush()
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            self._live(work, writing)
        os.close(writing)
        self._report = os.fdopen(reading)

    def _live(self, work: Callable[[], Any], writing: int) -> None:
        with os.fdopen(writing, "w") as report:
            try:
                found = {"result": work()}
                connections.close_all()
            except BaseException:  # noqa: BLE001  # it ends here, whatever it was
                found = {"failure": traceback.format_exc()}
            json.dump(found, report, default=str)
        os._exit(0)

    def result(self) -> Any:
        """Wait for the end and return the report."""
        with self._report:
            text = self._report.read()
        os.waitpid(self.pid, 0)
        found = json.loads(text)
        assert "result" in found, found["failure"]
        return found["result"]

    def wait(self, seconds: float) -> None:
        """Let it end by itself; what has not after so many seconds is killed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self._report.close()
                return
            time.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """End it as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._report.close()


def together(works: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run all of the works at the same time, each in a process of its own, and return their reports."""
    children = [Child(work) for work in works]
    try:
        return [children.pop(0).result() for _ in range(len(children))]
    finally:
        for child in children:
            child.kill()
