"""What subjects and messages can't show: values that no event of the rule has, and URLs that don't exist.

That is known only once all rules are read and the project's URLs can be imported, so ``check`` asks for it apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.template.defaulttags import URLNode
from django.urls import NoReverseMatch, reverse

from django_signal_audit.enums import MODEL_EVENTS, EventType
from django_signal_audit.problems import Problem
from django_signal_audit.rules.parsing import ParsedRule
from django_signal_audit.rules.patterns import Model, auditable_fields, auditable_members, key_fields, resolve_all
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import Rule
from django_signal_audit.rules.templates import CONTEXT, Use, compile_template, sources, uses

_SIDES = ("old", "new")
_TRIED = "Write {{ event.data.credentials.username }} for the name that was tried."
# What is always empty for the events of a rule without a model, and what to write instead.
_EMPTY = {
    EventType.LOGIN_FAILED.value: {"actor": _TRIED, "object": _TRIED},
    EventType.REQUEST.value: {"object": "Write {{ event.data.path }} for its path."},
    EventType.LOGIN.value: {},
    EventType.LOGOUT.value: {},
}


def content_problems() -> Iterator[Problem]:
    """Report what the subjects and messages of the rules in force can't show."""
    registry = get_registry()
    for parsed in registry.parsed:
        if parsed.rule.enabled and not registry.errors_at(parsed.path):
            for path, source in sources(parsed):
                yield from dict.fromkeys((*_value_problems(parsed, source, path), *_url_problems(source, path)))


def _value_problems(parsed: ParsedRule, source: str, path: str) -> Iterator[Problem]:
    models = resolve_all(parsed.rule.models)
    for use in uses(compile_template(source).nodelist):
        if use.scope.get(use.names[0]) != CONTEXT.get(use.names[0]):
            continue  # a name of the template's own
        mistake = _model_mistake(parsed.rule, models, use) if models else _event_mistake(parsed, use)
        if mistake:
            yield Problem("W037", path, f"shows {{{{ {'.'.join(use.names)} }}}}, but {mistake[0]}.", mistake[1])


def _event_mistake(parsed: ParsedRule, use: Use) -> tuple[str, str] | None:
    events, first = parsed.rule.events, use.names[0]
    if parsed.rule.models:
        return None
    is_ours = bool(events) and set(events) <= _EMPTY.keys()
    if first in _SIDES and (is_ours or parsed.rule.signal):
        return "the rule has no model, so its events have no fields", "Write event.data or event.context."
    if not is_ours:
        return None  # of other events the project's code decides
    if all(first in _EMPTY[event] for event in events):
        return f"{events[0]} events have none", _EMPTY[events[0]][first]
    return None


def _model_mistake(rule: Rule, models: Sequence[Model], use: Use) -> tuple[str, str] | None:
    side, *names = use.names
    if side == "event" and names[:1] == ["changes"] and len(names) > 1:
        return _field_mistake(rule, models, "event.changes", names[1])
    if side not in _SIDES:
        return None
    events = set(rule.events or MODEL_EVENTS) & {"create", "update", "delete"}
    if side == "old" and events == {"create"}:
        return "a created object has no old values", f"Write new.{names[0]}." if names else "Write new."
    if side == "new" and events == {"delete"}:
        return "a deleted object has no new values", f"Write old.{names[0]}." if names else "Write old."
    return _field_mistake(rule, models, side, names[0]) if names else None


def _field_mistake(rule: Rule, models: Sequence[Model], side: str, name: str) -> tuple[str, str] | None:
    """Return why no event that the rule matches has the value of a field, None if one may or the field isn't known."""
    has_members = side not in _SIDES
    having = [
        model
        for model in models
        if name in auditable_fields(model) or (has_members and name in auditable_members(model))
    ]
    if any(_is_recorded(rule, model, name) for model in having):
        return None
    if having:
        hint = f'Remove "{name}" from "exclude".' if name in rule.exclude else f'Add "{name}" to "fields".'
        return f"no rule for these events records {name}", hint
    if any(name in auditable_members(model) for model in models):
        return (
            f"{side} has no many-to-many fields",
            f"Write event.changes.{name}.added or event.changes.{name}.removed.",
        )
    if any(name in {field.name for field in key_fields(model)} for model in models):
        return f"the primary key isn't in {side}", "Write event.object_id."
    return None


def _is_recorded(rule: Rule, model: Model, name: str) -> bool:
    """Return whether the events of a rule on a model have a field, for the sake of that rule or of another one."""
    plan = get_registry().plans.get(model)
    events = set(rule.events or MODEL_EVENTS)
    return plan is None or any(name in item.names and events & item.events for item in plan.compiled)


def _url_problems(source: str, path: str) -> Iterator[Problem]:
    for node in compile_template(source).nodelist.get_nodes_by_type(URLNode):
        name = node.view_name.var  # type: ignore[attr-defined]
        if not isinstance(name, str) or node.asvar:  # type: ignore[attr-defined]
            continue  # a variable; or the template asks whether there is one
        has_arguments = bool(node.args or node.kwargs)  # type: ignore[attr-defined]
        mistake = _url_mistake(str(name), has_arguments=has_arguments)
        if mistake:
            message = f"has {{% url {str(name)!r} %}}, which can't be rendered: {mistake}."
            hint = "Correct the tag, or no message of the rule is sent."
            yield Problem("W038", path, message, hint)


def _url_mistake(name: str, *, has_arguments: bool) -> str:
    """Return why a URL can't be reversed, ``""`` if it can or that isn't known."""
    try:
        reverse(name)
    except NoReverseMatch as error:
        text = str(error)
    except Exception:  # noqa: BLE001  # a project may have no URLs, or some that don't import, which Django reports
        return ""
    else:
        return ""
    if " with no arguments not found" in text:
        return "" if has_arguments else "it needs arguments"
    return text if "registered namespace" in text else "no URL has that name"
