"""The options that say which events a command is about."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from django.core.management.base import CommandError
from django.db import router
from django.db.models import F

from django_signal_audit.enums import EventType, Level
from django_signal_audit.events.values import clean_text
from django_signal_audit.management.base import WRONG
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import utc_now
from django_signal_audit.problems import did_you_mean, nearest
from django_signal_audit.reports.arguments import MOMENTS, EventFilter, check_database, parse_model, parse_moment
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.formatter import local
from django_signal_audit.reports.functions import HasItem
from django_signal_audit.rules.event_rules import EVENT_SYNONYMS, LOGIN_SYNONYMS
from django_signal_audit.rules.hints import LEVEL_SYNONYMS
from django_signal_audit.rules.patterns import find_model, is_wildcard, matching, meant_label
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry

# The options that say which events are meant.
FILTERS = ("since", "until", "model", "event", "actor", "object", "rule", "level", "tenant")


def add_filter_options(parser: ArgumentParser) -> None:
    """Add what events have to match."""
    parser.add_argument("--since", metavar="TIME", help=f"Only events from this time on: {MOMENTS}.")
    parser.add_argument("--until", metavar="TIME", help=f"Only events before this time: {MOMENTS}.")
    parser.add_argument("--model", help="Only events of this model: app_label.Model.")
    parser.add_argument("--event", help="Only events of this type: create, update, … or a custom name.")
    parser.add_argument("--actor", help="Only events of this actor, by key, or else by exact name.")
    parser.add_argument("--object", metavar="KEY", help="Only events of objects with this primary key.")
    parser.add_argument("--rule", help="Only events this rule matched.")
    parser.add_argument("--tenant", help="Only events of this tenant.")
    parser.add_argument("--level", help=f"Only events of this level: {', '.join(Level.values)}.")


def filter_of(options: dict[str, Any]) -> EventFilter:
    """Return the filter that the options mean.

    Raises:
        WrongArgument: One of them means nothing.

    """
    now = utc_now()
    moments = {name: parse_moment(options[name], now) for name in ("since", "until") if options[name]}
    return EventFilter(
        model=parse_model(options["model"], options["database"]) if options["model"] else "",
        object_id=options["object"] or "",
        event_type=_event_type(options["event"], options["database"]),
        actor=options["actor"] or "",
        rule=_rule(options["rule"], options["database"]),
        level=_level(options["level"]),
        tenant=options["tenant"] or "",
        **moments,
    )


def describe(wanted: EventFilter) -> str:
    """Return in words which events a filter means, ``""`` for all."""
    named = {name: value for name, value in asdict(wanted).items() if value}
    shown = (
        f"{name.removesuffix('_id').removesuffix('_type')} {_moment(value) if name in ('since', 'until') else value}"
        for name, value in named.items()
    )
    return ", ".join(shown)


def _moment(moment: dt.datetime) -> str:
    return local(moment).isoformat(sep=" ", timespec="minutes")


def _event_type(text: str | None, using: str) -> str:
    if not text:
        return ""
    known = {
        *EventType.values,
        *(name for item in get_registry().parsed for name in (*item.rule.events, item.rule.event)),
    }
    if text not in known and not AuditEvent.objects.using(using).filter(event_type=clean_text(text)).exists():
        hint = did_you_mean(text, known - {""}, synonyms={**EVENT_SYNONYMS, **LOGIN_SYNONYMS})
        msg = f"There is no event {text!r}. {hint}"
        raise WrongArgument(msg)
    return text


def _rule(name: str | None, using: str) -> str:
    if name:
        check_rule(name, using)
    return name or ""


def _level(text: str | None) -> str:
    if text and text not in Level.values:
        msg = f"There is no level {text!r}. {did_you_mean(text, Level.values, synonyms=LEVEL_SYNONYMS)}"
        raise WrongArgument(msg)
    return text or ""


def check_rule(name: str, using: str) -> None:
    """Raise WrongArgument if neither the settings nor any event knows a rule of that name."""
    known = [item.rule.name for item in get_registry().parsed if item.rule.name]
    events = AuditEvent.objects.using(using)
    if name not in known and not events.filter(HasItem(F("rules"), clean_text(name))).exists():
        msg = f"There is no rule {name!r}, and no event of one. {did_you_mean(name, known)}"
        raise WrongArgument(msg)


T = TypeVar("T")

# How alike a label is that is taken for a misspelling rather than for another name of a model.
NEAR = 0.8


def select_plans(patterns: Sequence[str], using: str) -> list[ModelPlan]:
    """Return the plans of the models that the patterns mean; without any, of all whose rows may be on the database.

    Raises:
        CommandError: A pattern or the database means nothing, or no rule names the model.

    """
    try:
        check_database(using)
    except WrongArgument as error:
        raise CommandError(str(error), returncode=WRONG) from error
    registry = get_registry()
    if not patterns:
        return [plan for model, plan in registry.plans.items() if router.allow_migrate_model(using, model)]
    found: dict[ModelPlan, None] = {}
    for pattern in patterns:
        plans = [plan for model in matching(pattern) if (plan := registry.plan_for(model))]
        if not plans:
            raise CommandError(_why_none(pattern, registry.plans), returncode=WRONG)
        found |= dict.fromkeys(plans)
    return list(found)


def _why_none(pattern: str, plans: dict[type, ModelPlan]) -> str:
    known = [plan.label for plan in plans.values()]
    if is_wildcard(pattern) or find_model(pattern) is None:
        hint = "" if nearest(pattern, known, NEAR) else meant_label(pattern, plans)
        hint = hint or did_you_mean(pattern, known, "Write app_label.Model or app.*")
        return f"{pattern!r} matches no audited model. {hint}"
    return f"No rule names {pattern}, so it isn't audited. {did_you_mean(pattern, known)}"
