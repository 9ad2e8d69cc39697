"""A ModelPlan: everything the rules ask of one model, worked out once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from django.db import models

from django_signal_audit.enums import MODEL_EVENTS, RULE_EVENTS, EventType
from django_signal_audit.events.secret_fields import secret_fields
from django_signal_audit.models.renames import current_name
from django_signal_audit.plugins import load
from django_signal_audit.rules.conditions import Condition, can_hold, compile_when
from django_signal_audit.rules.patterns import Field, Model, auditable_fields, auditable_members, key_fields
from django_signal_audit.rules.schema import NotifyEntry, Rule
from django_signal_audit.rules.serializers import ColumnWriter, Serializer, make_column_writer, make_serializer
from django_signal_audit.rules.tenants import TenantPath, tenant_path


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule as it applies to one model, or to none."""

    rule: Rule
    events: frozenset[str]
    # The names of the fields that trigger it and are recorded, m2m fields among them.
    names: frozenset[str]
    condition: Condition | None
    notify: tuple[NotifyEntry, ...]


def compile_condition(rule: Rule, fields: Mapping[str, Field]) -> Condition | None:
    """Return the rule's condition for a model with these fields, None if it has none."""
    if isinstance(rule.when, str) and rule.when:
        found: Condition = load(rule.when, f'the "when" of rule "{rule.name}"', "a function that takes a change")
        return found
    if isinstance(rule.when, Mapping) and rule.when:
        return compile_when(rule.when, fields)
    return None


@dataclass(frozen=True, eq=False)
class ModelPlan:
    """What is audited on one concrete model, and by which rules.

    Rules on a parent model count for its multi-table children too: an event has the label of the most derived
    ruled model, and nothing a rule asks for may be lost by that.
    """

    model: Model
    compiled: tuple[CompiledRule, ...]
    all_fields: Mapping[str, Field]
    all_members: Mapping[str, models.ManyToManyField[Any, Any]]
    secret: frozenset[str]
    # Ruled models whose rows extend rows of this one.
    descendants: tuple[ModelPlan, ...] = field(default=(), repr=False)
    # What the rules make of a change that carries certain fields, where no condition has a say.
    matches: dict[tuple[str, frozenset[str]], Any] = field(default_factory=dict, init=False, repr=False)
    # How capture tells from memory what the columns hold, by class of the objects and database.
    certainties: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def label(self) -> str:
        """Return the model's label as events carry it: ``"shop.product"``."""
        return self.model._meta.label_lower

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """Return the rules in the order of the settings."""
        return tuple(item.rule for item in self.compiled)

    @cached_property
    def by_event(self) -> dict[str, tuple[CompiledRule, ...]]:
        """Return the rules by the type of event they ask for."""
        return {
            event_type: tuple(item for item in self.compiled if event_type in item.events) for event_type in RULE_EVENTS
        }

    @cached_property
    def conditional(self) -> frozenset[str]:
        """Return the types of events for which some rule has a condition."""
        return frozenset(
            event_type for event_type, rules in self.by_event.items() if any(item.condition for item in rules)
        )

    @cached_property
    def unconditional(self) -> tuple[CompiledRule, ...]:
        """Return the rules that record whatever happens to their fields."""
        return tuple(item for item in self.compiled if item.condition is None and item.events & {*MODEL_EVENTS})

    @cached_property
    def covered(self) -> frozenset[str]:
        """Return the names of the fields whose recorded values are always the row's: no change of them goes unrecorded.

        Rules without a condition have to ask for each creation, each deletion and each change of the field.
        """
        told: dict[str, set[str]] = {event_type: set() for event_type in MODEL_EVENTS}
        for item in self.unconditional:
            for event_type in item.events & told.keys():
                told[event_type] |= item.names
        changed = {
            *(told[EventType.UPDATE] & self.all_fields.keys()),
            *(told[EventType.M2M] & self.all_members.keys()),
        }
        return frozenset(changed & told[EventType.CREATE] & told[EventType.DELETE])

    @cached_property
    def included(self) -> frozenset[str]:
        """Return the names of the fields that events of some rule keep beside their changes."""
        named = {name for item in self.compiled for name in item.rule.include}
        return frozenset((named | self._of_tenant) & self.all_fields.keys())

    @cached_property
    def tenant(self) -> TenantPath | None:
        """Return the way from a row to its tenant, None if the setting TENANT names none."""
        return tenant_path(self.model)

    @cached_property
    def _of_tenant(self) -> frozenset[str]:
        return frozenset() if self.tenant is None else frozenset({self.tenant.column.name})

    @cached_property
    def serializers(self) -> dict[str, Serializer]:
        """Return, by field name, the function that makes of a value what the audit log keeps of it."""
        return {name: make_serializer(item, is_secret=name in self.secret) for name, item in self.all_fields.items()}

    @cached_property
    def column_writers(self) -> dict[str, ColumnWriter]:
        """Return, by field name, the function that writes what the audit log keeps of the values of many rows."""
        return {
            name: make_column_writer(item, self.serializers[name], is_secret=name in self.secret)
            for name, item in self.all_fields.items()
        }

    def names_for(self, event_type: str) -> frozenset[str]:
        """Return the names of the fields that a change of this type has to carry, for rules and their conditions."""
        return self._names[event_type]

    def fields_for(self, event_type: str) -> Mapping[str, Field]:
        """Return the concrete fields among them by name, in the order of the model."""
        return self._fields[event_type]

    @cached_property
    def _fields(self) -> dict[str, dict[str, Field]]:
        return {
            event_type: {name: item for name, item in self.all_fields.items() if name in names}
            for event_type, names in self._names.items()
        }

    @cached_property
    def generated(self) -> frozenset[str]:
        """Return the names of the columns that the database computes."""
        return frozenset(name for name, item in self.all_fields.items() if isinstance(item, models.GeneratedField))

    @cached_property
    def _names(self) -> dict[str, frozenset[str]]:
        names = {event_type: _needed(rules) | self._of_tenant for event_type, rules in self.by_event.items()}
        # Looking at a row changes nothing of it.
        return {**names, EventType.VIEW.value: frozenset()}

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Return the audited concrete fields by name."""
        return {name: item for name, item in self.all_fields.items() if name in self._audited}

    @cached_property
    def members(self) -> dict[str, models.ManyToManyField[Any, Any]]:
        """Return the audited m2m fields by name."""
        return {name: item for name, item in self.all_members.items() if name in self._audited}

    @cached_property
    def _audited(self) -> frozenset[str]:
        return frozenset().union(*self._names.values())


def _needed(rules: Iterable[CompiledRule]) -> frozenset[str]:
    needed: set[str] = set()
    for item in rules:
        needed |= {*item.names, *item.rule.include}
        if isinstance(item.rule.when, Mapping):
            needed |= set(item.rule.when)
    return frozenset(needed)


def audited_names(rule: Rule, model: Model) -> frozenset[str]:
    """Return the names of the fields of a model that a rule on it audits, m2m fields among them."""
    available = {*auditable_fields(model), *auditable_members(model)}
    return frozenset((set(rule.fields) & available if rule.fields else available) - set(rule.exclude))


def condition_fields(model: Model) -> dict[str, Field]:
    """Return the fields that a condition may ask for, by name."""
    keys = {item.name: item for item in key_fields(model)}
    return {**keys, **auditable_fields(model), **auditable_members(model)}


def concerns(rule: Rule, model: Model) -> bool:
    """Return whether a model has what a rule on it asks for: one of its fields, and all that its condition is about."""
    if rule.fields and not audited_names(rule, model):
        return False
    return not isinstance(rule.when, Mapping) or set(rule.when) <= set(condition_fields(model))


def build_plan(model: Model, rules: Iterable[tuple[Rule, Model]], masked: Iterable[str] = ()) -> ModelPlan:
    """Return the plan of a model.

    Args:
        model: The concrete model.
        rules: The rules that apply, each with the model it names: this one, or one of its parents.
        masked: The names of fields that rules have masked.

    """
    fields = auditable_fields(model)
    compiled = [
        CompiledRule(
            rule=rule,
            events=frozenset(rule.events or MODEL_EVENTS),
            names=audited_names(rule, named),
            condition=compile_condition(rule, condition_fields(model)) if rule.when else None,
            notify=tuple(map(NotifyEntry.of, rule.notify)),
        )
        for rule, named in rules
    ]
    return ModelPlan(
        model=model,
        compiled=tuple(compiled),
        all_fields=fields,
        all_members=auditable_members(model),
        secret=frozenset((set(secret_fields(model)) | set(masked)) & set(fields)),
    )


def plan_of_its_day(plan: ModelPlan, model: Model) -> ModelPlan:
    """Return the plan of a model for its class in a data migration, where fields may have had other names."""
    fields, members = auditable_fields(model), auditable_members(model)
    former = {name: current_name(plan.label, name) for name in {**fields, **members}}
    changed = {now: old for old, now in former.items() if now != old}
    compiled = plan.compiled
    if changed:
        compiled = tuple(_of_its_day(item, changed, model) for item in compiled)
    return replace(
        plan,
        model=model,
        compiled=compiled,
        all_fields=fields,
        all_members=members,
        secret=plan.secret | {old for old, now in former.items() if now in plan.secret},
        descendants=(),
    )


def _of_its_day(item: CompiledRule, former: Mapping[str, str], model: Model) -> CompiledRule:
    """Return a compiled rule with the names that fields had before."""
    rule = item.rule
    if isinstance(rule.when, Mapping):
        rule = replace(rule, when={former.get(name, name): spec for name, spec in rule.when.items()})
    rule = replace(rule, include=tuple(former.get(name, name) for name in rule.include))
    return replace(
        item,
        rule=rule,
        names=frozenset(former.get(name, name) for name in item.names),
        condition=compile_condition(rule, condition_fields(model)) if rule.when else None,
    )


def obstacle(rule: Rule, model: Model, event_type: str) -> str:
    """Return why a rule on a model, without mistakes, matches no event of this type; ``""`` if it may."""
    if event_type not in (rule.events or MODEL_EVENTS):
        return f"it asks for {', '.join(rule.events or MODEL_EVENTS)} only"
    return _fields_obstacle(rule, model, event_type) or _condition_obstacle(rule, model, event_type)


def _fields_obstacle(rule: Rule, model: Model, event_type: str) -> str:
    names = audited_names(rule, model)
    if rule.fields and not names:
        return f"{model._meta.label} has none of its fields that can change"
    if event_type == EventType.UPDATE and names.isdisjoint(auditable_fields(model)):
        return f"it audits no column of {model._meta.label}"
    if event_type == EventType.M2M and names.isdisjoint(auditable_members(model)):
        return f"it audits no many-to-many field of {model._meta.label}"
    return ""


def _condition_obstacle(rule: Rule, model: Model, event_type: str) -> str:
    if not isinstance(rule.when, Mapping):
        return ""
    if event_type == EventType.VIEW and rule.when:
        return "its condition cannot hold on view, which changes no field"
    if event_type in (EventType.UPDATE, EventType.M2M) and (mixture := mixture_of(rule, model)):
        return mixture
    fields = condition_fields(model)
    for name, spec in rule.when.items():
        if name not in fields:
            return f'its condition asks for "{name}", which {model._meta.label} has not'
        if not can_hold(spec, fields[name], event_type):
            return f'its condition on "{name}" cannot hold on {event_type}'
    return ""


def mixture_of(rule: Rule, model: Model) -> str:
    """Return why a condition on columns and m2m fields holds for no update and no m2m event, ``""`` if it may."""
    asked = list(rule.when) if isinstance(rule.when, Mapping) else []
    members = [name for name in asked if name in auditable_members(model)]
    columns = [name for name in asked if name in auditable_fields(model)]
    if not members or not columns:
        return ""
    return f'its condition asks for "{members[0]}" and "{columns[0]}" at once, and an m2m change is an event of its own'
