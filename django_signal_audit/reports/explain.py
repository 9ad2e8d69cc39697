"""What a change would do: which rules match and why the others do not, what is recorded, and who is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap

from django.db import router
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_signal_audit.channels import get_channel
from django_signal_audit.conf import get_settings
from django_signal_audit.enums import MODEL_EVENTS, RULE_EVENTS, EventType, Level
from django_signal_audit.events.payloads import without_its_secrets
from django_signal_audit.events.secret_fields import masked_fields
from django_signal_audit.events.secret_texts import HIDDEN
from django_signal_audit.models.tenants import tenant_function
from django_signal_audit.problems import did_you_mean, shown
from django_signal_audit.reports.base import Cell, Column, Detail, Report, WrongArgument
from django_signal_audit.rules.event_rules import EVENT_SYNONYMS
from django_signal_audit.rules.parsing import ParsedRule, as_mapping, rule_path
from django_signal_audit.rules.patterns import (
    Model,
    concrete,
    find_model,
    is_history,
    is_wildcard,
    matching,
    nearest_label,
    resolve_all,
)
from django_signal_audit.rules.plans import CompiledRule, ModelPlan, obstacle
from django_signal_audit.rules.registry import Registry, get_registry
from django_signal_audit.rules.schema import NotifyEntry, Rule
from django_signal_audit.rules.tenants import pattern_for, tenant_path

# Of a cell that lists names.
WIDTH = 36

_MODEL = Column("model", gettext_lazy("model"))
_EVENTS = Column("events", gettext_lazy("events"))
_FIELDS = Column("fields", gettext_lazy("fields"))
_RULE = Column("rule", gettext_lazy("rule"))
_NOTIFIES = Column("notifies", gettext_lazy("notifies"))


def coverage(using: str | None = None) -> dict[str, Report]:
    """Return what the settings in force audit: models, rules in force, and rules that are not.

    Args:
        using: Only models whose rows may be on this database; None for all.

    """
    registry = get_registry()
    return {"models": _models(registry, using), "rules": _rules(registry), "not_in_force": _not_in_force(registry)}


def _models(registry: Registry, using: str | None) -> Report:
    plans = [plan for plan in registry.plans.values() if using is None or router.allow_migrate_model(using, plan.model)]
    columns = (
        _MODEL,
        _EVENTS,
        _FIELDS,
        Column("masked", gettext_lazy("masked")),
        Column("rules", gettext_lazy("rules")),
        _NOTIFIES,
    )
    rows = [_model_row(plan) for plan in sorted(plans, key=lambda plan: plan.label)]
    return Report(title=_("Audited models"), columns=columns, rows=rows, empty=_("No model is audited."))


def _model_row(plan: ModelPlan) -> list[Cell]:
    # A view records no field.
    recorded = frozenset[str]().union(*(item.names for item in plan.compiled if item.events & {*MODEL_EVENTS}))
    names = [name for name in (*plan.all_fields, *plan.all_members) if name in recorded]
    return [
        plan.model._meta.label,
        joined(event for event in RULE_EVENTS if candidates(plan, event)),
        joined(names),
        joined(name for name in names if name in plan.secret),
        listed(rule.name for rule in plan.rules),
        listed(dict.fromkeys(text for rule in plan.rules for text in recipients(rule))),
    ]


def owner_of(rule: Rule, model: Model) -> Model | None:
    """Return the model that a rule names, this one or one of its parents; None if it names others."""
    named = set(resolve_all(rule.models))
    return next((owner for owner in (model, *model._meta.get_parent_list()) if owner in named), None)


def candidates(plan: ModelPlan, event_type: str) -> list[CompiledRule]:
    """Return the rules that may match events of this type of a model, depending on fields and conditions."""
    return [
        item
        for item in plan.by_event[event_type]
        if not obstacle(item.rule, owner_of(item.rule, plan.model) or plan.model, event_type)
    ]


def _rules(registry: Registry) -> Report:
    columns = (
        _RULE,
        Column("watches", gettext_lazy("audits")),
        _EVENTS,
        _FIELDS,
        Column("when", gettext_lazy("condition")),
        Column("level", gettext_lazy("level")),
        _NOTIFIES,
    )
    rows: list[Sequence[Cell]] = [
        [
            rule.name,
            listed(audited(rule)),
            joined(events_of(rule)),
            joined(_fields(rule)),
            condition(rule),
            rule.level,
            listed(recipients(rule)),
        ]
        for rule in registry.rules
    ]
    return Report(title=_("Active rules"), columns=columns, rows=rows, empty=_("No rule is active."))


def _not_in_force(registry: Registry) -> Report:
    columns = (_RULE, Column("where", gettext_lazy("where")), Column("why", gettext_lazy("why")))
    rows: list[Sequence[Cell]] = []
    for index, raw in enumerate(get_settings().rules):
        path, entry = rule_path(index), as_mapping(raw) or {}
        reasons = [f"{error.path.removeprefix(path)} {error.message}".strip() for error in registry.errors_at(path)]
        if entry.get("enabled") is False:
            reasons.insert(0, _("disabled"))
        if reasons:
            name = entry.get("name", "")
            rows.append([name if isinstance(name, str) else shown(name), path, listed(reasons)])
    return Report(title=_("Inactive rules"), columns=columns, rows=rows, empty=_("All rules are active."))


def audited(rule: Rule) -> Iterator[str]:
    """Yield what a rule audits: models, a signal, or nothing but events."""
    yield from [rule.model] if isinstance(rule.model, str) and rule.model else rule.model
    if rule.signal:
        yield rule.signal
    for name, values in ((_("paths"), rule.paths), (_("methods"), rule.methods)):
        if values:
            yield f"{name} {', '.join(values)}"


def events_of(rule: Rule) -> tuple[str, ...]:
    """Return the event types a rule asks for."""
    if rule.models:
        return tuple(rule.events) or MODEL_EVENTS
    return tuple(dict.fromkeys(filter(None, (*rule.events, rule.event))))


def _fields(rule: Rule) -> Iterator[str]:
    if rule.models and not set(MODEL_EVENTS).isdisjoint(events_of(rule)):
        yield from rule.fields or (_("all"),)
        yield from (_("without %(field)s") % {"field": name} for name in rule.exclude)


def condition(rule: Rule) -> str:
    """Return the condition of a rule as a text, ``""`` if it has none."""
    if not isinstance(rule.when, Mapping):
        return rule.when or ""
    masked = {name for model in resolve_all(rule.models) for name in masked_fields(model)}
    return "; ".join(f"{name} {_operators(spec, name in masked)}" for name, spec in rule.when.items())


def _operators(spec: object, is_masked: bool) -> str:
    if not isinstance(spec, Mapping):
        return str(spec)
    return ", ".join(f"{key} {HIDDEN if is_masked else without_its_secrets(item)}" for key, item in spec.items())


def recipients(rule: Rule) -> tuple[str, ...]:
    """Return whom a rule notifies: each channel, with who is told by it where it is somebody in particular."""
    return tuple(_recipients(entry) for entry in map(NotifyEntry.of, rule.notify))


def _recipients(entry: NotifyEntry) -> str:
    try:
        to = get_channel(entry.channel).recipients() if entry.to is None else entry.to
    except Exception:  # noqa: BLE001  # a channel that cannot be made is reported by the checks; here it has its name
        to = ()
    names = ", ".join(filter(None, to))
    return f"{entry.channel}: {names}" if names else entry.channel


def listed(texts: Iterable[str]) -> Detail:
    """Return a cell with one text per line, a list for machines."""
    lines = tuple(texts)
    return Detail(lines, list(lines))


def joined(texts: Iterable[str]) -> Detail:
    """Return a cell with the texts in a row as far as it is wide, a list for machines."""
    items = list(texts)
    return Detail(tuple(wrap(", ".join(items), WIDTH, break_on_hyphens=False)), [*items])


def explain(label: str, event_type: str) -> dict[str, Report]:
    """Return what a change would do: an answer for every rule, and for every field that matters.

    Args:
        label: The model, a proxy counts as its concrete one.
        event_type: One of the events of models.

    Raises:
        WrongArgument: There is no such model or event.

    """
    model, likely = likely_rules(label, event_type)
    registry = get_registry()
    return {
        "rules": _rules_asked(registry, model, event_type, likely),
        "fields": _fields_recorded(registry.plan_for(model), event_type, likely),
        "outcome": _outcome(likely),
        **({"tenant": _tenant(model)} if get_settings().tenant else {}),
    }


def likely_rules(label: str, event_type: str) -> tuple[Model, Sequence[CompiledRule]]:
    """Return the model whose rows a change is about, and the rules that may match it; raises as ``explain`` does."""
    found = find_model(label)
    if found is None:
        msg = f"There is no model {label!r}. {nearest_label(label)}"
        raise WrongArgument(msg)
    if event_type not in RULE_EVENTS:
        hint = did_you_mean(event_type, RULE_EVENTS, synonyms=EVENT_SYNONYMS)
        msg = f"{event_type!r} isn't an event of a model. {hint}"
        raise WrongArgument(msg)
    model = concrete(found)
    plan = get_registry().plan_for(model)
    return model, candidates(plan, event_type) if plan else []


def _rules_asked(registry: Registry, model: Model, event_type: str, likely: Sequence[CompiledRule]) -> Report:
    matching_rules = {id(item.rule) for item in likely}
    rows: list[Sequence[Cell]] = []
    for parsed in registry.parsed:
        rule = parsed.rule
        if id(rule) in matching_rules:
            rows.append([rule.name, _answer(rule), _why(rule, event_type), rule.level, listed(recipients(rule))])
        else:
            why = _why_not(registry, parsed, model, event_type)
            rows.append([rule.name or parsed.path, _flag(False), why, rule.level, listed(())])
    columns = (
        Column("rule", gettext_lazy("rule")),
        Column("matches", gettext_lazy("matches")),
        Column("why", gettext_lazy("why")),
        Column("level", gettext_lazy("level")),
        Column("notifies", gettext_lazy("notifies")),
    )
    title = _("What a change would do: %(event)s of %(model)s") % {"event": event_type, "model": model._meta.label}
    return Report(title=title, columns=columns, rows=rows, empty=_("There are no rules."))


def _answer(rule: Rule) -> Cell:
    return Detail((_("if its condition holds"),), "maybe") if rule.when else _flag(True)


def _flag(value: bool) -> Detail:
    return Detail((_("yes") if value else _("no"),), value)


def _why(rule: Rule, event_type: str) -> str:
    if rule.when:
        return condition(rule)
    if event_type in (EventType.CREATE, EventType.DELETE, EventType.VIEW):
        return _("every %(event)s") % {"event": event_type}
    return _("any change of its fields")


def _why_not(registry: Registry, parsed: ParsedRule, model: Model, event_type: str) -> str:
    rule = parsed.rule
    if not rule.enabled:
        return _("disabled")
    if registry.errors_at(parsed.path):
        return _("it has mistakes, see manage.py check")
    if not rule.models:
        return _("it audits no model")
    owner = owner_of(rule, model)
    if owner is None:
        if not any(is_wildcard(pattern) and model in matching(pattern) for pattern in rule.models):
            return _("it audits other models")
        return _("a history table of another package") if is_history(model) else _("EXCLUDE_MODELS names the model")
    return obstacle(rule, owner, event_type)


def _fields_recorded(plan: ModelPlan | None, event_type: str, likely: Sequence[CompiledRule]) -> Report:
    names = _carried(plan, event_type) if plan else []
    rows: list[Sequence[Cell]] = []
    for name in names:
        recorded_by = [item.rule.name for item in likely if name in item.names]
        masked = plan is not None and name in plan.secret
        rows.append([name, _flag(bool(recorded_by)), _flag(masked), listed(recorded_by)])
    columns = (
        Column("field", gettext_lazy("field")),
        Column("recorded", gettext_lazy("recorded")),
        Column("masked", gettext_lazy("masked")),
        Column("rules", gettext_lazy("rules")),
    )
    return Report(title=_("Fields that are read"), columns=columns, rows=rows, empty=_("No field would be read."))


def _carried(plan: ModelPlan, event_type: str) -> list[str]:
    """Return the fields whose values such a change carries, for rules and their conditions."""
    needed = plan.names_for(event_type)
    fields = [] if event_type == EventType.M2M else list(plan.all_fields)
    members = list(plan.all_members) if event_type in (EventType.M2M, EventType.DELETE) else []
    return [name for name in (*fields, *members) if name in needed]


def _outcome(likely: Sequence[CompiledRule]) -> Report:
    sure = [item.rule for item in likely if not item.rule.when]
    rules = [item.rule for item in likely]
    rows: list[Sequence[Cell]] = []
    if rules:
        recorded = _flag(True) if sure else Detail((_("if a condition holds"),), "maybe")
        told = dict.fromkeys(text for rule in rules for text in recipients(rule))
        rows.append([recorded, listed(rule.name for rule in rules), _level(sure or rules), _level(rules), listed(told)])
    columns = (
        Column("recorded", gettext_lazy("recorded")),
        Column("rules", gettext_lazy("rules")),
        Column("level", gettext_lazy("level")),
        Column("level_at_most", gettext_lazy("level if all conditions hold")),
        Column("notifies", gettext_lazy("notifies")),
    )
    return Report(title=_("Outcome"), columns=columns, rows=rows, empty=_("Nothing would be recorded."))


def _tenant(model: Model) -> Report:
    dotted, path, pattern = tenant_function(), tenant_path(model), pattern_for(model)
    if dotted:
        row: list[Cell] = [_("what %(function)s returns") % {"function": dotted}, ""]
    elif path is not None:
        row = [_("the row's %(path)s") % {"path": path}, pattern]
    else:
        row = [_("no tenant"), pattern]
    columns = (Column("tenant", gettext_lazy("tenant")), Column("pattern", gettext_lazy("pattern")))
    return Report(title=_("Tenant"), columns=columns, rows=[row], empty="")


def _level(rules: Sequence[Rule]) -> str:
    return Level.highest([rule.level for rule in rules])
