"""Formats by alias: the built-in ones, and those that a setting adds by dotted path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from django.utils.module_loading import import_string

from django_signal_audit.problems import did_you_mean

from .base import WrongArgument

T = TypeVar("T")

# What people write for the built-in ones.
_SYNONYMS = {"md": "markdown", "text": "table", "txt": "table", "excel": "csv", "htm": "html", "ndjson": "jsonl"}


def load_format(alias: str, paths: Mapping[str, str], base: type[T], *, setting: str, noun: str) -> T:
    """Return the format of that alias.

    Args:
        alias: Its name.
        paths: The dotted path of each format by alias.
        base: What its class has to be a subclass of.
        setting: The key of SIGNAL_AUDIT that adds such formats.
        noun: What such a format is called.

    Raises:
        WrongArgument: There is none, or its dotted path leads to no such class.

    """
    if alias not in paths:
        msg = f"There is no {noun} {alias!r}. {did_you_mean(alias, paths, synonyms=_SYNONYMS)}"
        raise WrongArgument(msg)
    where = f'SIGNAL_AUDIT["{setting}"]["{alias}"] = {paths[alias]!r}'
    try:
        found = import_string(paths[alias])
    except ImportError as error:
        msg = f"{where} does not import: {error}"
        raise WrongArgument(msg) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        msg = f"{where} isn't a subclass of {base.__module__}.{base.__name__}."
        raise WrongArgument(msg)
    return found()
