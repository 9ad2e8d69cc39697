"""Builds the wheel and the sdist, and installs each as users do: complete, typed, and at work in a new project.

It needs ``build`` and ``twine``; the tox environment ``package`` has them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "py.typed",
    "migrations/0001_initial.py",
    "importing/sources/auditlog.py",
    "templates",
    "static",
    *(f"locale/{path.name}/LC_MESSAGES/django.mo" for path in (ROOT / "django_signal_audit" / "locale").iterdir()),
)
SETTINGS = """
INSTALLED_APPS = ["django_signal_audit", *INSTALLED_APPS]
DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}
MIDDLEWARE += ["django_signal_audit.middleware.AuditMiddleware"]
SIGNAL_AUDIT = {"RULES": [{"name": "users", "model": "auth.User"}]}
"""
PUBLIC = """
import django_signal_audit as package
from importlib.resources import files
for name in package.__all__:
    getattr(package, name)
missing = [name for name in FILES if not files("django_signal_audit").joinpath(name).exists()]
assert not missing, missing
print(package.__version__)
"""
SAVED = """
from django.contrib.auth.models import User
from django_signal_audit.models import AuditEvent
AuditEvent.objects.all().prune()
User.objects.create_user("ada", password="secret")
event = AuditEvent.objects.get(event_type="create")
assert event.changes["username"] == [None, "ada"], event.changes
assert "$masked" in event.changes["password"][1]
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program and return its output; end with it if it fails."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def try_out(python: Path, folder: Path) -> None:
    """Import the installed package without settings, and record a save in a new project."""
    run(python, "-I", "-W", "error", "-c", f"FILES = {FILES!r}\n{PUBLIC}", cwd=folder)
    project = folder / "project"
    if not project.exists():
        project.mkdir()
        run(python, "-m", "django", "startproject", "config", project, cwd=folder)
        with (project / "config" / "settings.py").open("a", encoding="utf-8") as settings:
            settings.write(SETTINGS)
    run(python, "manage.py", "migrate", "--verbosity", "0", cwd=project)
    run(python, "manage.py", "check", "--fail-level", "WARNING", cwd=project)
    run(python, "manage.py", "shell", "--command", dedent(SAVED), cwd=project)
    run(python, "manage.py", "shell", "--command", "User.objects.all().delete()", cwd=project)
    run(python, "manage.py", "audit_replay", "--check", cwd=project)


def main() -> None:
    """Build, look at the metadata, and try out both forms; ``--keep DIRECTORY`` keeps them there."""
    kept = Path(sys.argv[sys.argv.index("--keep") + 1]).resolve() if "--keep" in sys.argv else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT)
        built = sorted((folder / "dist").iterdir(), key=lambda file: file.suffix != ".whl")
        assert [file.suffix for file in built] == [".whl", ".gz"], built
        run(sys.executable, "-m", "twine", "check", "--strict", *built)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        for file in built:
            # The second one needs what the first has installed already.
            again = ["--force-reinstall", "--no-deps"] if file.suffix == ".gz" else []
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *again, file)
            try_out(python, folder)
            sys.stdout.write(f"{file.name} works in a new project.\n")
        if kept is not None:
            shutil.copytree(folder / "dist", kept, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
