"""What is wrong with a name that a template of a rule uses: it would be shown as nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from django.apps import apps

from django_signal_audit.problems import Problem, did_you_mean

from .patterns import Field, Model
from .schema import RULE_KEYS
from .template_names import EVENT, EVENTS, FIELDS, RULE, TEXT, Use

# What people write for the names that there are.
_SYNONYMS = {
    **dict.fromkeys(("instance", "obj", "item", "record", "self"), "object"),
    **dict.fromkeys(("user", "username", "request", "who", "by"), "actor"),
    **dict.fromkeys(("before", "previous", "was", "original"), "old"),
    **dict.fromkeys(("after", "current", "now", "value", "updated"), "new"),
    "changes": "event.changes",
    "model": "event.model",
    "timestamp": "event.recorded_at",
    "date": "event.recorded_at",
    "level": "event.level",
    "reason": "event.context.reason",
    "data": "event.data",
}
_OF_EVENT = {
    **dict.fromkeys(("type", "typ", "event", "action", "kind"), "event_type"),
    **dict.fromkeys(("user", "actor", "username"), "actor_repr"),
    **dict.fromkeys(("object", "instance"), "object_repr"),
    **dict.fromkeys(("object_pk", "pk_of_object"), "object_id"),
    **dict.fromkeys(("timestamp", "date", "time", "created", "created_at", "when"), "recorded_at"),
}


def use_problem(use: Use, fields: Mapping[str, Field], path: str) -> Problem | None:
    """Return what is wrong with a variable, None if nothing is or it cannot be known.

    Args:
        use: The variable, and what the names in reach of it stand for.
        fields: The fields that the objects of the rule can have; none if that is not known.
        path: Where the template stands.

    """
    first, *rest = use.names
    if first not in use.scope:
        return _problem(use, path, "that name doesn't exist", _name_hint(first, use, fields))
    if use.is_translated and rest:
        name = rest[-1]
        hint = f"Write {{% blocktranslate with {name}={'.'.join(use.names)} %}} and {{{{ {name} }}}} inside."
        return _problem(use, path, "blocktranslate takes only simple names", hint)
    kind = use.scope[first]
    if kind == EVENTS and rest and rest[0].isdecimal():
        kind, rest = EVENT, rest[1:]
    if not rest:
        return None
    if kind == FIELDS:
        return _field_problem(use, rest, fields, path)
    return _attribute_problem(use, kind, rest[0], fields, path)


def _problem(use: Use, path: str, message: str, hint: str) -> Problem:
    return Problem("W035", path, f"uses {{{{ {'.'.join(use.names)} }}}}, but {message}.", hint)


def _name_hint(name: str, use: Use, fields: Mapping[str, Field]) -> str:
    if name in fields:
        return f"Write new.{name} or old.{name}."
    return did_you_mean(name, [known for known in use.scope if known[0].islower()], synonyms=_SYNONYMS)


def _field_problem(use: Use, names: list[str], fields: Mapping[str, Field], path: str) -> Problem | None:
    side, name = use.names[0], names[0]
    if not fields or hasattr(dict, name):
        return None
    if name not in fields:
        message = f"shows {{{{ {'.'.join((side, name))} }}}}, but the model has no such field."
        return Problem("W008", path, message, did_you_mean(name, fields))
    if len(names) > 1 and fields[name].many_to_one:
        return _problem(use, path, f"{side}.{name} is the primary key of another row", f"Write {side}.{name} alone.")
    return None


def _attribute_problem(use: Use, kind: str, name: str, fields: Mapping[str, Field], path: str) -> Problem | None:
    first = use.names[0]
    if kind == TEXT and not (hasattr(str, name) or name.isdecimal()):
        hint = f"Write new.{name} or old.{name}." if name in fields else f"Write {first} alone."
        if first == "object" and name in ("pk", "id"):
            hint = "Write event.object_id."
        return _problem(use, path, f"{first} is a string", hint)
    if kind == EVENTS and not hasattr(list, name):
        return _problem(use, path, "events is a list", f"Write events.0.{name}, or a loop over events.")
    if kind == RULE and name not in RULE_KEYS:
        return _problem(use, path, "a rule has no such key", did_you_mean(name, RULE_KEYS))
    event = apps.get_model("django_signal_audit", "AuditEvent")
    if kind == EVENT and not hasattr(event, name):
        hint = did_you_mean(name, _event_names(event), synonyms=_OF_EVENT)
        return _problem(use, path, "an event has no such attribute", hint)
    return None


def _event_names(event: Model) -> list[str]:
    properties = [name for name, value in vars(event).items() if isinstance(value, (property, cached_property))]
    return [*(field.name for field in event._meta.concrete_fields), *properties]
