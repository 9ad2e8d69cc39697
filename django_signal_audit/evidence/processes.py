"""Processes that check pages of the log beside each other: Python hashes on one core only.

Nothing here imports models: the processes begin without Django.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor

import django
from django.conf import ENVIRONMENT_VARIABLE
from django.db import connections

from django_signal_audit.exceptions import InvalidSettings


def start_pool(jobs: int, using: str) -> ProcessPoolExecutor:
    """Return so many processes that read a database.

    Raises:
        InvalidSettings: No process but this one can have its settings.

    """
    if not os.environ.get(ENVIRONMENT_VARIABLE):
        msg = f"Several processes need the settings in a module that {ENVIRONMENT_VARIABLE} names."
        raise InvalidSettings(msg, "Verify with one process.")
    # A fork would share this process's connections and locks with the others.
    context = multiprocessing.get_context("spawn")
    name = connections[using].settings_dict["NAME"]
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(using, name))


def _begin(using: str, name: object) -> None:
    # Ctrl-C is the command's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    django.setup()
    # A test's database isn't the one that the settings name.
    connections[using].settings_dict["NAME"] = name
