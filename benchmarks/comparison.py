"""Tries what audit packages record and offer, with the real packages, and prints the table of docs/comparison.md.

Each package runs in a process and on a database of its own, PostgreSQL unless another is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .claims.base import Package
from .claims.catalogue import SECTIONS
from .claims.packages import PACKAGES, package
from .claims.trying import Verdict
from .databases import TITLES, database

BEGIN = "<!-- printed by python -m benchmarks.comparison -->"
END = "<!-- end of what it prints -->"
Answers = dict[str, Verdict]


def _set_up(one: Package, entry: dict[str, Any]) -> None:
    """Configure Django for the package, and make its tables."""
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    context = "django.template.context_processors.request", "django.contrib.auth.context_processors.auth"
    processors = [*context, "django.contrib.messages.context_processors.messages"]
    contrib = [f"django.contrib.{app}" for app in ("admin", "auth", "contenttypes", "sessions", "messages")]
    settings.configure(
        COMPARED_PACKAGE=one.name,
        DATABASES={"default": entry},
        INSTALLED_APPS=[*one.apps, *contrib, "benchmarks.claims"],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            *one.middleware,
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": processors},
            },
        ],
        ROOT_URLCONF="benchmarks.claims.urls",
        ALLOWED_HOSTS=["testserver"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        SECRET_KEY="comparison",
        **one.settings,
    )
    django.setup()
    # So that responses of the test client have the context of their templates.
    setup_test_environment()
    call_command("migrate", verbosity=0)
    call_command("migrate", run_syncdb=True, verbosity=0)
    one.tables_made()
    from django.contrib import admin

    from .claims.models import Product

    admin.site.register(Product, one.admin_class())


def _try_all(one: Package) -> Answers:
    answers: Answers = {}
    for claims in SECTIONS.values():
        for name, claim in claims.items():
            try:
                answers[name] = claim(one)
            except Exception as error:  # noqa: BLE001 (a package may raise anything; the table says that it did)
                print(f"{one.name}: {name}\n{traceback.format_exc()}", file=sys.stderr)
                answers[name] = Verdict("no", f"the call fails with `{type(error).__name__}`")
    return answers


def _child(name: str, entry: str) -> None:
    # What a package prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    one = package(name)
    _set_up(one, json.loads(entry))
    found = {claim: [verdict.answer, verdict.note] for claim, verdict in _try_all(one).items()}
    print(json.dumps({"version": one.version, "answers": found}), file=answers, flush=True)


def _ask(one: Package, kind: str, number: int, quiet: bool) -> tuple[str, Answers]:
    with database(kind, number) as entry:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.comparison", "--child", one.name, json.dumps(entry)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            check=True,
        )
    said = json.loads(done.stdout)
    return said["version"], {claim: Verdict(*verdict) for claim, verdict in said["answers"].items()}


def _cell(verdict: Verdict, notes: list[str]) -> str:
    if not verdict.note:
        return verdict.answer
    if verdict.note not in notes:
        notes.append(verdict.note)
    return f"{verdict.answer} <sup>{notes.index(verdict.note) + 1}</sup>"


def _tables(names: Sequence[str], found: Sequence[Answers]) -> str:
    """Return a Markdown table for each section, and the notes."""
    notes: list[str] = []
    parts = []
    for title, claims in SECTIONS.items():
        rows = [f"### {title}", "", f"|  | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
        rows += [f"| {claim} | {' | '.join(_cell(one[claim], notes) for one in found)} |" for claim in claims]
        parts.append("\n".join(rows))
    numbered = [f"{number}. {note[:1].upper()}{note[1:]}." for number, note in enumerate(notes, 1)]
    return "\n\n".join([*parts, "### Notes", "\n".join(numbered)])


def _write(path: Path, text: str) -> None:
    """Put the tables between the marks of a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{path} doesn't have the lines {BEGIN} and {END}.")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison", description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="default: all")
    parser.add_argument("--database", choices=TITLES, default="postgresql")
    parser.add_argument("--verbose", action="store_true", help="show the tracebacks of what raises")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the marks of this page")
    return parser.parse_args()


def main() -> None:
    """Try every claim with every package."""
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:])
        return
    chosen = _arguments()
    ones = [one for one in PACKAGES if chosen.database in one.databases]
    ones = [one for one in ones if not chosen.packages or one.name in chosen.packages]
    asked = [_ask(one, chosen.database, number, not chosen.verbose) for number, one in enumerate(ones)]
    names = [f"{one.name.removeprefix('django-')} {version}" for one, (version, _) in zip(ones, asked, strict=True)]
    text = _tables(names, [answers for _, answers in asked])
    if chosen.write:
        _write(chosen.write, text)
    print(text)


if __name__ == "__main__":
    main()
