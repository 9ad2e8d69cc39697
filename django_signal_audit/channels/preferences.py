"""The language and time zone of the one who reads a message."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model
from django.utils import timezone, translation
from django.utils.functional import cached_property
from django.utils.translation import get_supported_language_variant

from django_signal_audit.problems import did_you_mean

# What an option begins with that names an attribute of the user and no value.
OF_USER = "user."


def preferred_language(option: str, user: Model | None) -> str:
    """Return the language to write in: the option's, or the user's; the project's where neither is one of LANGUAGES."""
    try:
        return get_supported_language_variant(str(_value(option, user) or settings.LANGUAGE_CODE))
    except LookupError:
        return str(settings.LANGUAGE_CODE)


def preferred_zone(option: str, user: Model | None) -> dt.tzinfo | None:
    """Return the time zone to write times in: the option's, or the user's; None where neither is one."""
    value = _value(option, user)
    if isinstance(value, dt.tzinfo):
        return value
    try:
        return zoneinfo.ZoneInfo(str(value)) if value else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def default_zone() -> dt.tzinfo | None:
    """Return the zone of a project that has zones."""
    return timezone.get_default_timezone() if settings.USE_TZ else None


def _value(option: str, user: Model | None) -> object:
    if not option.startswith(OF_USER):
        return option
    value: Any = user
    for name in option.removeprefix(OF_USER).split("."):
        try:
            value = getattr(value, name, None)
        except ObjectDoesNotExist:
            return None
    return value


def language_problem(option: str) -> tuple[str, str | None] | None:
    """Return what is wrong with an option ``language`` and the edit to make, None if nothing is."""
    if option.startswith(OF_USER):
        return _path_problem(option)
    known = dict(settings.LANGUAGES)
    with translation.override("en"):
        names = {str(name).lower(): code for code, name in known.items()}
    hint = did_you_mean(option, known, synonyms=names)
    return None if option in known else (f"is {option!r}, which LANGUAGES does not have", hint)


def zone_problem(option: str) -> tuple[str, str | None] | None:
    """Return what is wrong with an option ``time_zone`` and the edit to make, None if nothing is."""
    if option.startswith(OF_USER):
        return _path_problem(option)
    known = zoneinfo.available_timezones()
    is_short = option.isupper() or not any(map(str.isalpha, option))  # CEST, +02:00
    hint = 'Write a name such as "Europe/Vienna".' if is_short else did_you_mean(option, known)
    return None if option in known else (f"is {option!r}, which isn't a time zone", hint)


def _path_problem(option: str) -> tuple[str, str | None] | None:
    model = get_user_model()
    name = option.removeprefix(OF_USER).partition(".")[0]
    fields = {field.name for field in model._meta.get_fields()}
    if name in fields or hasattr(model, name):
        return None
    return f"is {option!r}, and {model._meta.label} has no {name!r}", did_you_mean(name, _names(fields, model))


def _names(fields: set[str], model: type[Model]) -> Iterator[str]:
    yield from fields
    for parent in model.__mro__:
        yield from (
            name
            for name, value in vars(parent).items()
            if isinstance(value, (property, cached_property)) and not name.startswith("_") and name != "pk"
        )
