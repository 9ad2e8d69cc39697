"""Starts a program as Python would, with every model of the Django project in it audited.

    python audited.py MODE manage.py test
    python audited.py MODE -m pytest

MODE is ``plain`` (nothing is done), ``audited`` or ``receivers`` (with CAPTURE_QUERIES off). Projects configure their
settings in many ways, and ``django.setup`` is what all of them call. It runs in the environment of the project.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODES: dict[str, dict[str, Any]] = {"plain": {}, "audited": {}, "receivers": {"CAPTURE_QUERIES": False}}


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

    django.setup = setup


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
    run(command)
