"""Starts a program as Python would, with every model of the Django project in it audited.

    python audited.py MODE manage.py test
    python audited.py MODE -m pytest

MODE is ``plain`` (nothing is done), ``audited``, ``receivers`` (with CAPTURE_QUERIES off), or ``replayed``: audited,
with assertions on the number of queries that hold whatever it is, so that the rest of their tests is tried too, and
with the trail compared with the tables at the end of each test.
Projects configure their settings in many ways, and ``django.setup`` is what all of them call. It runs in the
environment of the project.
The source of every event that is written becomes a line of the file that AUDITED_EVENTS names.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "audited": {},
    "replayed": {},
    "receivers": {"CAPTURE_QUERIES": False},
}


def watch_everything(keys: dict[str, Any]) -> None:
    """Have the app and its one rule in the settings before they are first used."""
    import django

    # Django's tests have a package of that name beside their runner.
    import model_utils  # noqa: F401
    from django.conf import settings

    original: Callable[..., None] = django.setup

    def setup(*args: Any, **kwargs: Any) -> None:
        if "django_signal_audit" not in settings.INSTALLED_APPS:
            settings.INSTALLED_APPS = ["django_signal_audit", *settings.INSTALLED_APPS]
            settings.SIGNAL_AUDIT = {"RULES": [{"name": "all", "model": "*"}], **keys}
        original(*args, **kwargs)
        note_events()

    django.setup = setup


def note_events() -> None:
    """Have each event noted outside the database, whose tables the tests empty and drop."""
    from django_signal_audit import recorder

    if hasattr(recorder._record, "noted"):
        return
    # Not event_recorded: a receiver costs queries, and some tests count the receivers.
    original: Callable[..., list[Any]] = recorder._record
    # Lines that are appended unbuffered stay whole, whichever of the runner's processes writes them.
    notes = os.open(os.environ["AUDITED_EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def record(*args: Any) -> list[Any]:
        rows = original(*args)
        os.write(notes, "".join(f"{row.source}\n" for row in rows).encode())
        return rows

    record.noted = True  # type: ignore[attr-defined]
    recorder._record = record


def leave_counts() -> None:
    """Have the assertions on the number of queries look at nothing."""
    from django.test import testcases, utils

    testcases._AssertNumQueriesContext.__exit__ = utils.CaptureQueriesContext.__exit__
    if find_spec("pytest_django"):
        import pytest_django.fixtures
        from django.db import connections

        @contextmanager
        def pass_through(*_: Any, connection: Any = None, using: str = "default", **__: Any) -> Iterator[Any]:
            with utils.CaptureQueriesContext(connection or connections[using]) as context:
                yield context

        pytest_django.fixtures._assert_num_queries = pass_through


def run(program: list[str]) -> None:
    """Run a script, or a module after ``-m``, as the main program."""
    if program[0] == "-m":
        sys.argv, sys.path[0] = program[1:], os.getcwd()  # noqa: PTH109  # pathlib is not what sys.path holds
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = program, str(Path(program[0]).resolve().parent)
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    mode, *command = sys.argv[1:]
    if mode != "plain":
        watch_everything(MODES[mode])
    if mode == "replayed":
        from replays import replay_after_tests

        leave_counts()
        replay_after_tests(os.environ["AUDITED_DIFFERENCES"])
    run(command)
