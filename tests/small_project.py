"""A project of its own with an app ``shop``, its own migrations and its own database, whose commands are processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

from django.db import connections

ROOT = Path(__file__).resolve().parents[1]

_SETTINGS = """
SECRET_KEY = "project"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop", "django_signal_audit"]
DATABASES = {"default": %(database)r}
SIGNAL_AUDIT = {"RULES": [{"name": "shop", "model": "shop.*"}]}
"""


class SmallProject:
    """A project in a folder.

    Args:
        path: The folder.
        models: The source of ``shop/models.py``, after its imports.
        migrations: The operations of each migration of ``shop``, as source.
        more: Further lines of the settings.

    """

    def __init__(self, path: Path, models: str, *migrations: str, more: str = "") -> None:
        self.path = path
        self.database = _new_database(path)
        self.write("project.py", _SETTINGS % {"database": self.database} + dedent(more))
        self.write("shop/__init__.py", "")
        self.write("shop/models.py", "from django.db import models\n" + dedent(models))
        self.write("shop/migrations/__init__.py", "")
        for number, operations in enumerate(migrations, 1):
            self.add_migration(number, operations)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def add_migration(self, number: int, operations: str, code: str = "") -> None:
        """Write a migration that depends on the one before."""
        before = [("shop", f"m{number - 1}")] if number > 1 else []
        self.write(
            f"shop/migrations/m{number}.py",
            f"from django.db import migrations, models\n{dedent(code)}\n"
            f"class Migration(migrations.Migration):\n"
            f"    dependencies = {before!r}\n"
            f"    operations = [{operations}]\n",
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a management command and return what it writes to stdout."""
        done = self.start("-m", "django", *arguments)
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, source: str) -> str:
        """Run Python code in the project and return what it prints."""
        begin = "import django; django.setup()\nfrom shop.models import *\n"
        begin += "from django_signal_audit.models import AuditEvent, Notification\n"
        done = self.start("-c", begin + dedent(source))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments."""
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project",
            "PYTHONPATH": os.pathsep.join([str(self.path), str(ROOT)]),
        }
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, env=environment, cwd=self.path, capture_output=True, text=True, timeout=120, check=False
        )

    def close(self) -> None:
        """Remove the database."""
        if connections["default"].vendor != "sqlite":
            _execute(f"DROP DATABASE IF EXISTS {self.database['NAME']}")


def _new_database(path: Path) -> dict[str, Any]:
    entry = connections["default"].settings_dict
    if connections["default"].vendor == "sqlite":
        file = str(path / "project.sqlite3")
        return {"ENGINE": entry["ENGINE"], "NAME": file, "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20}}
    name = f"{entry['NAME']}_small"
    _execute(f"DROP DATABASE IF EXISTS {name}")
    _execute(f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4" if connections["default"].vendor == "mysql" else ""))
    return {**{key: entry[key] for key in ("ENGINE", "USER", "PASSWORD", "HOST", "PORT")}, "NAME": name}


def _execute(sql: str) -> None:
    """Run a statement that no transaction may be around."""
    connection = connections["default"].copy()
    connection.inc_thread_sharing()
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
    finally:
        connection.close()
