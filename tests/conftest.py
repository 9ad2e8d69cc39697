from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.sites import all_sites
from django.core.management.color import no_style
from django.core.management.commands import flush
from django.db import connections

from django_signal_audit.capture import hooks
from django_signal_audit.models import AuditEvent

from .corners import is_read, left_out
from .databases import URL
from .processes.stage import THOROUGH
from .small_project import SmallProject

EVERYTHING = [{"name": "all", "model": "app.*"}]

# The engine for PostgreSQL writes saves in one statement, and only with psycopg 3. That for MariaDB sends packets.
SAVES_ARE_ONE_STATEMENT = connections["default"].Database.__name__ == "psycopg"
HAS_ENGINE_FOR_SAVES = SAVES_ARE_ONE_STATEMENT or connections["default"].vendor == "mysql"

# How many wait for a lock in this database. A transaction looks at pg_stat_activity only once.
WAITING = """
    SELECT count(*) FROM pg_locks waiting WHERE NOT granted AND EXISTS (
        SELECT FROM pg_locks JOIN pg_database ON database = pg_database.oid
        WHERE pid = waiting.pid AND datname = current_database())
"""

has_files_of_its_own = pytest.mark.skipif(
    not URL.startswith("sqlite"), reason="it has SQLite files of its own, whatever server the others are on"
)

# A process of ten seconds whose kind has other tests, which run in a build.
in_test_all = pytest.mark.skipif(not THOROUGH, reason="only with AUDIT_TEST_THOROUGH=1, as in make test-all")

# A build tries the same examples every time; a developer's run tries new ones.
hypothesis.settings.register_profile("build", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("build")


# A shell that starts the tests in the background has them ignore SIGINT, and so would the processes that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the shares of the tests that ``corners.py`` describes."""
    parser.addoption("--files", default="all", choices=["all", "corners", "others"], help="which files of tests")
    parser.addoption("--tests", default="1/1", metavar="K/N", help="of each file, every Nth test from the Kth on")
    parser.addoption("--cases", default="1/1", metavar="K/N", help="of each test, every Nth case from the Kth on")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files that a run has nothing of: reading them takes seconds."""
    return None if is_read(collection_path, config.getoption("files")) else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not in this run's share. Begin with what takes longest: the last one is waited for alone."""
    unwanted = left_out(items, tests=config.getoption("tests"), cases=config.getoption("cases"))
    if unwanted:
        config.hook.pytest_deselected(items=[item for item in items if item in unwanted])
        items[:] = [item for item in items if item not in unwanted]
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Search what was made until here for garbage no more: it lives as long as the process."""
    gc.collect()
    gc.freeze()


# They are made once, by the first migrate, and no test changes them.
KEPT_TABLES = {"auth_permission", "django_content_type"}


@pytest.fixture(scope="session", autouse=True)
def tables_are_emptied_quickly() -> Iterator[None]:
    """Empty tables after a test by DELETE, and keep permissions and content types.

    Making those anew, and PostgreSQL's TRUNCATE, which makes new files for each table, took a third of the tests' time.
    """
    handle = flush.Command.handle

    def empty(self: flush.Command, **options: Any) -> None:
        if options.get("reset_sequences", True):  # Not a test's end, but a test that calls the command.
            handle(self, **options)
            return
        connection = connections[options["database"]]
        tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
        tables = [table for table in tables if table not in KEPT_TABLES]
        if connection.vendor == "postgresql":
            statements = ["; ".join(f"DELETE FROM {connection.ops.quote_name(table)}" for table in tables)]
        else:
            statements = connection.ops.sql_flush(no_style(), tables)
        connection.ops.execute_sql_flush(statements)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush.Command, "handle", empty)
        yield


@pytest.fixture
def small_project(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., SmallProject]:
    """Make a project of its own, on a database of its own."""
    request.getfixturevalue("django_db_setup")
    blocker = request.getfixturevalue("django_db_blocker")

    def make(*arguments: str, **options: str) -> SmallProject:
        with blocker.unblock():
            project = SmallProject(tmp_path, *arguments, **options)
        request.addfinalizer(lambda: _close(project, blocker))
        return project

    return make


def _close(project: SmallProject, blocker: Any) -> None:
    with blocker.unblock():
        project.close()


T = TypeVar("T")
Audit = Callable[..., None]


@pytest.fixture(autouse=True)
def sites_of_one_test() -> Iterator[None]:
    """Forget the admin sites that a test has made: they are asked about models as those of a project are."""
    before = set(all_sites)
    yield
    for site in set(all_sites) - before:
        all_sites.discard(site)


@pytest.fixture
def audit(settings: Any) -> Audit:
    """Put rules in force; without any, everything in the test app is watched."""

    def apply(*rules: Any, **keys: Any) -> None:
        settings.SIGNAL_AUDIT = {"RULES": list(rules) or EVERYTHING, **keys}

    return apply


@pytest.fixture
def other_methods() -> Iterator[None]:
    """Let a test give models other methods than they had: what was found out about those is forgotten."""
    for keep in (hooks.writes_as_told, hooks._are_djangos):
        keep.cache_clear()
    yield
    for keep in (hooks.writes_as_told, hooks._are_djangos):
        keep.cache_clear()


def events(**filters: Any) -> list[AuditEvent]:
    """Return the recorded events, oldest first."""
    return list(AuditEvent.objects.filter(**filters).order_by("id"))


def last() -> AuditEvent:
    """Return the newest event."""
    event = AuditEvent.objects.order_by("id").last()
    assert event is not None, "nothing was recorded"
    return event


def trail(**filters: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return type and changes of the recorded events, oldest first."""
    return [(event.event_type, event.changes) for event in events(**filters)]


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, and close the connections its threads opened: PostgreSQL drops no database that is in use."""

    async def main() -> T:
        try:
            return await work
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(main())
