"""What a change would do: which rules match and why the others do not, what is recorded, and who is told."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_signal_audit.enums import MODEL_EVENTS, EventType, Level
from django_signal_audit.problems import did_you_mean
from django_signal_audit.rules.labels import nearest_label
from django_signal_audit.rules.parsing import ParsedRule
from django_signal_audit.rules.patterns import Model, concrete, find_model, matching
from django_signal_audit.rules.plans import CompiledRule, ModelPlan
from django_signal_audit.rules.registry import Registry, get_registry
from django_signal_audit.rules.satisfiability import obstacle
from django_signal_audit.rules.schema import Rule
from django_signal_audit.rules.validation import EVENT_SYNONYMS

from .base import Cell, Column, Detail, Report, WrongArgument
from .rule_overview import candidates, condition, listed, owner_of, recipients


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
        "rules": _rules(registry, model, event_type, likely),
        "fields": _fields(registry.plan_for(model), event_type, likely),
        "outcome": _outcome(likely),
    }


def likely_rules(label: str, event_type: str) -> tuple[Model, Sequence[CompiledRule]]:
    """Return the model whose rows a change is about, and the rules that may match it; raises as ``explain`` does."""
    found = find_model(label)
    if found is None:
        msg = f"There is no model {label!r}. {nearest_label(label)}"
        raise WrongArgument(msg)
    if event_type not in MODEL_EVENTS:
        hint = did_you_mean(event_type, MODEL_EVENTS, synonyms=EVENT_SYNONYMS)
        msg = f"{event_type!r} isn't an event of a model. {hint}"
        raise WrongArgument(msg)
    model = concrete(found)
    plan = get_registry().plan_for(model)
    return model, candidates(plan, event_type) if plan else []


def _rules(registry: Registry, model: Model, event_type: str, likely: Sequence[CompiledRule]) -> Report:
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
    if event_type in (EventType.CREATE, EventType.DELETE):
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
        is_excluded = "*" in rule.models and model in matching("*")
        return _("EXCLUDE_MODELS names the model") if is_excluded else _("it audits other models")
    return obstacle(rule, owner, event_type)


def _fields(plan: ModelPlan | None, event_type: str, likely: Sequence[CompiledRule]) -> Report:
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
        Column("level_at_most", gettext_lazy("with all conditions")),
        Column("notifies", gettext_lazy("notifies")),
    )
    return Report(title=_("Outcome"), columns=columns, rows=rows, empty=_("Nothing would be recorded."))


def _level(rules: Sequence[Rule]) -> str:
    return Level.highest([rule.level for rule in rules])
