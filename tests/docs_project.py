"""A page that builds a project: files are written and commands run as a reader would, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import django

from .docs_blocks import ROOT, Block, matches, split_console
from .docs_commands import ENDLESS, check_other, manage_words
from .docs_session import compare_event

NEWEST_EVENT = """
import json
from django_signal_audit.models import AuditEvent
print(json.dumps(AuditEvent.objects.values().order_by("-id")[0], default=str))
"""


class Project:
    """An empty directory that becomes the project of the page."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.printed = ""

    def run(self, block: Block) -> None:
        if block.condition and not _holds(block.condition):
            return
        runner = getattr(self, f"_run_{block.kind}", None)
        assert runner, f"{block.where}: nobody runs blocks of the kind {block.kind!r} on this page"
        try:
            runner(block)
        except BaseException as error:
            error.add_note(f"in the block at {block.where}")
            raise

    def _run_python(self, block: Block) -> None:
        if block.verb in ("shell", "hidden"):
            self.printed = self._call("manage.py", "shell", "-v", "0", "-c", block.source)
            return
        path = self.directory / block.argument
        if block.verb == "append":
            path.write_text(f"{path.read_text(encoding='utf-8')}\n{block.source}", encoding="utf-8")
        else:
            assert block.verb == "file", "On this page every Python block needs a word about what it is."
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.source, encoding="utf-8")

    def _run_console(self, block: Block) -> None:
        for command, expected in split_console(block.source):
            words = manage_words(command)
            if words is not None and ENDLESS.isdisjoint(words):
                output = self._call("manage.py", *words)
            elif command.startswith("django-admin "):
                output = self._call("-m", "django", *command.split()[1:])
            else:
                check_other(command)
                continue
            if expected.strip():
                assert matches(expected, output), f"{command}\n{output}"

    def _run_json(self, block: Block) -> None:
        newest = json.loads(self._call("manage.py", "shell", "-v", "0", "-c", NEWEST_EVENT))
        compare_event(json.loads(block.source), newest)

    def _run_text(self, block: Block) -> None:
        assert block.verb == "output", "A text block here is what the block before printed."
        assert matches(block.source, self.printed), self.printed

    def _call(self, *arguments: str) -> str:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DJANGO_", "AUDIT_"))}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={**kept, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout


def _holds(condition: str) -> bool:
    is_newer = django.VERSION >= (6, 1)
    return {"django>=6.1": is_newer, "django<6.1": not is_newer}[condition]
