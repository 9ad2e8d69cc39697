"""What only the whole project shows about the settings: renames in its migrations, texts of messages, its tenants.

That is known once all rules are read and the project's URLs can be imported, so ``check`` asks for it apart.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

from django.apps import AppConfig, apps
from django.db import models
from django.db.migrations import AddField, CreateModel, Migration, RenameField, RenameModel, SeparateDatabaseAndState
from django.db.migrations.loader import MigrationLoader
from django.template.defaulttags import URLNode
from django.urls import NoReverseMatch, reverse

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.enums import MODEL_EVENTS, EventType
from django_signal_audit.models.renames import current_label, field_names, get_renames
from django_signal_audit.models.tenants import PATH, tenant_function
from django_signal_audit.plugins import function_problems
from django_signal_audit.problems import Problem, did_you_mean
from django_signal_audit.rules.parsing import ParsedRule
from django_signal_audit.rules.patterns import (
    Model,
    auditable_fields,
    auditable_members,
    find_model,
    key_fields,
    matching,
    resolve_all,
)
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import Rule
from django_signal_audit.rules.templates import CONTEXT, Use, compile_template, sources, uses
from django_signal_audit.rules.tenants import Wrong, is_left_out, mapping, parse_path, tenant_path


@dataclass
class History:
    """What the models and fields of one app were called, by its migrations.

    Attributes:
        labels: The label that each model had and the one that it has at the end, in lower case.
        fields: The same for fields, by the model's label at the end.
        names: The names of today as they are written.
        is_squashed: Whether former names may be missing.

    """

    app: str
    labels: dict[str, str] = field(default_factory=dict)
    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    is_squashed: bool = False

    def add(self, operation: object) -> None:
        """Go on with one operation."""
        if isinstance(operation, SeparateDatabaseAndState):
            for one in operation.state_operations:
                self.add(one)
        elif isinstance(operation, CreateModel):
            self._note_model(operation.name)
            self.fields[self._label(operation.name)] = {name: name for name, _ in operation.fields}
        elif isinstance(operation, RenameModel):
            self._rename_model(operation.old_name, operation.new_name)
        elif isinstance(operation, AddField):
            self._fields(operation.model_name)[operation.name] = operation.name
        elif isinstance(operation, RenameField):
            _rename(self._fields(operation.model_name), operation.old_name, operation.new_name)

    def _label(self, name: str) -> str:
        return f"{self.app}.{name}".lower()

    def _note_model(self, name: str) -> None:
        self.labels[self._label(name)] = self._label(name)
        self.names[self._label(name)] = f"{self.app}.{name}"

    def _rename_model(self, old_name: str, new_name: str) -> None:
        old, new = self._label(old_name), self._label(new_name)
        self._note_model(new_name)
        _rename(self.labels, old, new)
        self.fields[new] = self.fields.pop(old, {})

    def _fields(self, name: str) -> dict[str, str]:
        return self.fields.setdefault(self._label(name), {})


def _rename(names: dict[str, str], old: str, new: str) -> None:
    """Note in a mapping of former names to those of today that one has changed."""
    for former, now in names.items():
        if now == old:
            names[former] = new
    names[old] = names[new] = new


@cache
def history_of(app: str) -> History | None:
    """Return the history of an app, None if it has no migrations, or if they can't be read."""
    try:
        migrations = _migrations(app)
    except Exception:  # noqa: BLE001  # importing runs the project's code; Django reports what is wrong with it
        return None
    if not migrations:
        return None
    history = History(app)
    for name in _in_order(app, migrations):
        # What a squashed migration replaces says more than it.
        is_squashed = any((app, other) in migrations[name].replaces for other in migrations)
        history.is_squashed |= bool(migrations[name].replaces)
        for operation in () if is_squashed else migrations[name].operations:
            history.add(operation)
    return history


def _in_order(app: str, migrations: Mapping[str, Migration]) -> Iterator[str]:
    """Yield the names of migrations, each after those of the app that it depends on."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name in done or name not in migrations:
            return
        done.add(name)
        for label, before in migrations[name].dependencies:
            yield from visit(before) if label == app else ()
        yield name

    for name in sorted(migrations):
        yield from visit(name)


def _migrations(app: str) -> dict[str, Migration]:
    """Return the migrations of an app by name, without those of other apps."""
    path, _is_explicit = MigrationLoader.migrations_module(app)
    if path is None:
        return {}
    module = import_module(path)
    names = [info.name for info in pkgutil.iter_modules(module.__path__) if not info.ispkg and info.name[0] not in "_~"]
    found = {name: getattr(import_module(f"{path}.{name}"), "Migration", None) for name in names}
    return {name: migration for name, migration in found.items() if migration is not None}


on_settings_changed(history_of.cache_clear)


def rename_problems() -> Iterator[Problem]:
    """Yield what is wrong with RENAMED, and what it lacks."""
    yield from get_renames().problems
    yield from _unknown_problems()
    by_app: dict[str, list[type[models.Model]]] = {}
    for model in get_registry().plans:
        if _is_projects(model._meta.app_config):
            by_app.setdefault(model._meta.app_label, []).append(model)
    for app, audited in by_app.items():
        history = history_of(app)
        if history is not None:
            yield from _missing_problems(history, {model._meta.label_lower: model for model in audited})


def _is_projects(config: AppConfig) -> bool:
    """Return whether an app belongs to the project; what packages rename is theirs to say."""
    return not {"site-packages", "dist-packages"} & set(Path(config.path).parts)


def _missing_problems(history: History, audited: dict[str, type[models.Model]]) -> Iterator[Problem]:
    path = 'SIGNAL_AUDIT["RENAMED"]'
    for former, now in history.labels.items():
        model = audited.get(now)
        if model is None or former == now or find_model(former) is not None or current_label(former) == now:
            continue
        message = f"lacks a rename in the migrations: {history.names[former]} is {model._meta.label} now."
        hint = f'Add "{history.names[former]}": "{model._meta.label}".'
        yield Problem("W083", path, message, hint)
    for label, model in audited.items():
        names = {one.name for one in (*model._meta.concrete_fields, *model._meta.many_to_many)}
        for former_name, name in history.fields.get(label, {}).items():
            if former_name in names or name not in names or field_names(label).get(former_name) == name:
                continue
            message = f"lacks a rename in the migrations: {model._meta.label}.{former_name} is {name} now."
            hint = f'Add "{model._meta.label}.{former_name}": "{model._meta.label}.{name}".'
            yield Problem("W083", path, message, hint)


def _unknown_problems() -> Iterator[Problem]:
    """Warn of former names that no migration has ever given."""
    for key in get_settings().renamed:
        parts = key.split(".")
        history = (
            history_of(parts[0].lower()) if len(parts) in (2, 3) and apps.is_installed(_name_of(parts[0])) else None
        )
        if history is None or history.is_squashed:
            continue
        path, label = f'SIGNAL_AUDIT["RENAMED"]["{key}"]', ".".join(parts[:2]).lower()
        message = f"names {key!r}, which no migration of the app has ever made."
        if len(parts) == 2 and label not in history.labels:
            yield Problem("W084", path, message, did_you_mean(label, history.labels))
        elif len(parts) == 3:
            known = history.fields.get(history.labels.get(label, current_label(label)), {})
            if known and parts[2] not in known:
                yield Problem("W084", path, message, did_you_mean(parts[2], known))


def _name_of(label: str) -> str:
    """Return the name of the app with a label, ``""`` if there is none."""
    return next((config.name for config in apps.get_app_configs() if config.label == label.lower()), "")


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


# Of models that one warning names.
_MOST_NAMED = 5


def tenant_problems() -> Iterator[Problem]:
    """Report a TENANT whose function can't be asked, or whose mapping names what isn't there."""
    dotted = tenant_function()
    if dotted:
        hint = "Name a function without arguments that returns a str."
        yield from function_problems("E086", dotted, PATH, [], hint=hint)
    yield from _same_names(mapping())
    for pattern, text in mapping().items():
        yield from _entry_problems(pattern, text)
    if mapping():
        yield from _models_without_tenant()


def _same_names(patterns: Iterable[str]) -> Iterator[Problem]:
    """Report keys that differ in case alone: they mean the same models, and the last one would count."""
    known: dict[str, str] = {}
    for pattern in patterns:
        first = known.setdefault(pattern.lower(), pattern)
        if first != pattern:
            message = f"means the same as {first!r}, so one of the two is ignored."
            yield Problem("E091", f'{PATH}["{pattern}"]', message, "Remove one of the two.")


def _entry_problems(pattern: str, text: str) -> Iterator[Problem]:
    path, found = f'{PATH}["{pattern}"]', matching(pattern)
    if not found:
        known = [plan.model._meta.label for plan in get_registry().plans.values()]
        hint = did_you_mean(pattern, known, "Write app_label.Model, app_label.* or *.")
        yield Problem("E087", path, "means no model.", hint)
        return
    wrong = [one for model in found if text and isinstance(one := parse_path(model, text), Wrong)]
    # A pattern of many models may mean some without the column, but not all.
    secret = next((one for one in wrong if one.code == "E089"), None)
    mistake = secret or (wrong[0] if len(wrong) == len(found) else None)
    if mistake is not None:
        yield Problem(mistake.code, path, mistake.message, mistake.hint)


def _models_without_tenant() -> Iterator[Problem]:
    missing = [
        plan.model._meta.label
        for plan in get_registry().plans.values()
        if tenant_path(plan.model) is None and not is_left_out(plan.model)
    ]
    if missing:
        named = ", ".join(sorted(missing)[:_MOST_NAMED]) + (", …" if len(missing) > _MOST_NAMED else "")
        message = f"gives events of audited models no tenant: {named}."
        yield Problem(
            "W087", PATH, message, f'Add "{sorted(missing)[0]}" with its path, or with "" if it belongs to none.'
        )
