"""Small projects in a process of their own, for what happens once in a process: start-up, and who patched first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

SETTINGS = """
SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
INSTALLED_APPS = {apps}
SIGNAL_AUDIT = {audit}
"""
OURS = ("django_signal_audit", "django.contrib.auth", "django.contrib.contenttypes")
EVERYTHING = {"RULES": [{"name": "all", "model": "*"}]}
BEGIN = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
from django_signal_audit.models import AuditEvent

def trail(**filters):
    events = AuditEvent.objects.filter(**filters).order_by("id")
    return [(event.event_type, event.source, event.changes) for event in events]
"""


def run_project(
    directory: Path,
    files: dict[str, str],
    script: str,
    *,
    apps: tuple[str, ...] = OURS,
    audit: object = None,
    begin: str = BEGIN,
    settings: str = "",
) -> str:
    """Write a project of these files, run a script in it, and return what that printed.

    Args:
        directory: An empty directory.
        files: The sources by path; each directory named is made a package.
        script: What to run, after ``setup()`` and ``migrate`` on a SQLite database in memory.
        apps: INSTALLED_APPS.
        audit: SIGNAL_AUDIT; everything is watched by default.
        begin: What runs before the script.
        settings: Further settings.

    """
    settings = SETTINGS.format(apps=list(apps), audit=EVERYTHING if audit is None else audit) + settings
    for name, source in {"project_settings.py": settings, **files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent != directory:
            (path.parent / "__init__.py").touch()
        path.write_text(dedent(source), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", begin + dedent(script)],
        cwd=directory,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "project_settings", "PYTHONPATH": _path(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _path(directory: Path) -> str:
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(directory), *([inherited] if inherited else [])])
