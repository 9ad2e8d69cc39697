"""What ``check`` and ``migrate`` say of databases whose changes this package cannot follow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_signal_audit.checks import check_databases

from .docs_blocks import ROOT

RULE = {"name": "r", "model": "app.Tag"}
unless_mysql = pytest.mark.skipif(connection.vendor == "mysql", reason="it pretends that another server is MySQL")
SETTINGS = """
from tests.settings import *

DATABASES = {{"default": {{"ENGINE": "tests.backends.{engine}", "NAME": ":memory:",
    "OPTIONS": {{"transaction_mode": "IMMEDIATE"}}}}}}
SIGNAL_AUDIT = {{"RULES": [{{"name": "r", "model": "app.Tag"}}]}}
"""


class NoTags:
    """Keeps the audited model from the second database."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        return False if db == "other" and app_label == "app" else None


@pytest.fixture
def other(settings: Any) -> BaseDatabaseWrapper:
    settings.SIGNAL_AUDIT = {"RULES": [RULE]}
    return connections["other"]


def found(databases: list[str] | None = None) -> list[tuple[str, str, str]]:
    return [(str(item.id), item.msg, item.hint or "") for item in check_databases(databases=databases)]


@pytest.mark.parametrize(
    ("vendor", "name"),
    [("oracle", "Oracle"), ("microsoft", "SQL Server"), ("cockroachdb", "CockroachDB"), ("snowflake", "")],
)
def test_a_database_that_is_not_supported_is_an_error(
    other: BaseDatabaseWrapper, monkeypatch: pytest.MonkeyPatch, vendor: str, name: str
) -> None:
    monkeypatch.setattr(other, "vendor", vendor, raising=False)
    ((code, message, hint),) = found()
    assert code == "django_signal_audit.E029"
    assert message.startswith('DATABASES["other"]["ENGINE"] is ')
    assert f"{name} is not supported" in message
    assert "PostgreSQL, MariaDB or SQLite" in hint
    assert found(["default"]) == []
    assert len(found(["other"])) == 1


@pytest.mark.parametrize("vendor", ["postgresql", "sqlite"])
def test_a_backend_that_wraps_a_supported_one_is_supported(
    other: BaseDatabaseWrapper, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    monkeypatch.setattr(other, "vendor", vendor, raising=False)
    monkeypatch.setitem(other.settings_dict, "ENGINE", "some_package.metrics.backend")
    assert found() == []


@unless_mysql
@pytest.mark.parametrize(("is_mariadb", "count"), [(True, 0), (False, 1)])
def test_mysql_is_told_from_mariadb(
    other: BaseDatabaseWrapper, monkeypatch: pytest.MonkeyPatch, is_mariadb: bool, count: int
) -> None:
    monkeypatch.setattr(other, "vendor", "mysql", raising=False)
    monkeypatch.setattr(type(other), "mysql_is_mariadb", is_mariadb, raising=False)
    assert [message.partition(", and ")[2][:5] for _, message, _ in found()] == ["MySQL"] * count


@unless_mysql
def test_a_server_that_is_away_is_no_reason_to_fail(
    other: BaseDatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(connection: BaseDatabaseWrapper) -> bool:
        raise OperationalError("Can't connect")

    monkeypatch.setattr(other, "vendor", "mysql", raising=False)
    monkeypatch.setattr(type(other), "mysql_is_mariadb", property(away), raising=False)
    assert found() == []


def test_a_database_without_audited_models_may_be_any(
    other: BaseDatabaseWrapper, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other, "vendor", "oracle", raising=False)
    settings.DATABASE_ROUTERS = [f"{__name__}.NoTags"]
    assert found() == []
    settings.DATABASE_ROUTERS = []
    assert len(found()) == 1
    settings.SIGNAL_AUDIT = {}
    assert found() == []


def manage(tmp_path: Path, engine: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "odd_settings.py").write_text(SETTINGS.format(engine=engine))
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "DJANGO_SETTINGS_MODULE": "odd_settings",
    }
    command = [sys.executable, "-m", "django", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["check", "migrate"])
def test_plain_commands_say_it(tmp_path: Path, command: str) -> None:
    done = manage(tmp_path, "oddsql", command)
    assert done.returncode == 1
    assert done.stderr.count("(django_signal_audit.E029)") == 1
    assert "OddSQL is not supported" in done.stderr


def test_a_wrapping_backend_passes(tmp_path: Path) -> None:
    done = manage(tmp_path, "wrapping", "check")
    assert (done.returncode, done.stderr) == (0, "")
