"""Commands that the docs show: ``manage.py`` ones are run or at least parsed, the others must exist."""

from __future__ import annotations

import io
import re
import shlex
import subprocess

from django.core.management import call_command, get_commands, load_command_class

from .docs_blocks import ROOT

# They end only when somebody ends them.
ENDLESS = {"--watch", "runserver"}
OTHERS = {"cd", "git", "pip", "pytest", "python", "source", "django-admin", "mkdir"}


def check_shell(source: str) -> None:
    """Fail unless the shell can read it and knows the commands of ``manage.py`` in it."""
    done = subprocess.run(["bash", "-n"], input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check_commands(source)


def check_commands(source: str) -> None:
    """Fail unless every ``manage.py`` command in a text exists and has the options it is given."""
    for line in re.sub(r"\\\n", " ", source).splitlines():
        found = re.search(r"manage\.py ([a-z_]+[^|>&;)`]*)", line)
        if found and not line.lstrip().startswith("#"):
            parse_command(shlex.split(found[1]))


def parse_command(words: list[str]) -> None:
    """Fail unless the command exists and takes these arguments."""
    name, *arguments = words
    commands = get_commands()
    assert name in commands, f"There is no manage.py {name}."
    command = load_command_class(commands[name], name) if isinstance(commands[name], str) else commands[name]
    command.create_parser("manage.py", name).parse_args(arguments)


def run_command(words: list[str]) -> str:
    """Run a command of ``manage.py`` and return what it printed."""
    parse_command(words)
    if not ENDLESS.isdisjoint(words):
        return ""
    output = io.StringIO()
    try:
        call_command(*words, stdout=output, stderr=output)
    except SystemExit as end:
        output.write(f"(exit code {end.code})\n" if end.code else "")
    return output.getvalue()


def check_other(command: str) -> None:
    """Fail unless a command that is not ``manage.py``'s is one we know; targets of make must exist."""
    check_shell(command)
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"Unknown targets in {command!r}."
    else:
        assert words[0] in OTHERS, f"Nobody checks {words[0]!r}."


def manage_words(command: str) -> list[str] | None:
    """Return the words after ``python manage.py``, None for another command."""
    words = shlex.split(command, comments=True)
    return words[2:] if words[:2] == ["python", "manage.py"] else None
