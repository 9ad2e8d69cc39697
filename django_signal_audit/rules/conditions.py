"""Conditions: the ``when`` of a rule, compiled for one model into a function of a Change."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any, TypeAlias
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from django_signal_audit.enums import EventType
from django_signal_audit.events.changes import Change
from django_signal_audit.events.values import EXACT_DECIMALS, converts_by_itself, is_djangos, plain_field
from django_signal_audit.problems import Problem, did_you_mean, nearest, shown
from django_signal_audit.rules.operands import choices_of

Field: TypeAlias = "models.Field[Any, Any]"

# Values that have no order; the settings may not ask whether one rose.
_UNORDERED = (models.JSONField, models.BinaryField)
# Values that cannot be subtracted from one another.
_STEPLESS = (
    *_UNORDERED,
    models.BooleanField,
    models.CharField,
    models.FileField,
    models.GenericIPAddressField,
    models.TextField,
    models.TimeField,
    models.UUIDField,
)
_SPANS = (models.DateField, models.DurationField)


def read_value(field: Field, operand: object) -> object:
    """Return the operand as a value of the field, None for None."""
    if operand is None:
        return None
    plain = plain_field(field)
    if converts_by_itself(plain):
        return _column_value(plain, operand)
    if isinstance(operand, Mapping) and not isinstance(plain, models.JSONField):
        msg = "the field doesn't take a dict"
        raise ValueError(msg)
    if isinstance(plain, models.DateTimeField):
        return _moment(plain, operand)
    value = plain.to_python(operand)
    if isinstance(plain, models.IntegerField) and _number(operand) != value:
        msg = "a whole number is needed"
        raise ValueError(msg)
    return value


def _column_value(plain: Any, operand: Any) -> Any:
    """Return what the column holds for an operand, which may be a value of the field or the column's own."""
    try:
        return plain.get_prep_value(plain.to_python(operand))
    except Exception:
        if not is_djangos(plain.get_prep_value):
            with suppress(Exception):
                return plain.get_prep_value(operand)
        if hasattr(plain, "from_db_value"):
            with suppress(Exception):
                plain.from_db_value(operand, None, None)
                return operand
        raise


def _moment(plain: models.DateTimeField[Any, object], operand: object) -> object:
    """Return a moment that can be compared with stored ones: aware where the project's are, in its time zone."""
    if isinstance(operand, dt.date) and not isinstance(operand, dt.datetime):
        operand = dt.datetime.combine(operand, dt.time())  # its zone comes next
    value = plain.to_python(operand)
    zone = timezone.get_default_timezone()
    if settings.USE_TZ and timezone.is_naive(value):
        return timezone.make_aware(value, zone)
    if not settings.USE_TZ and timezone.is_aware(value):
        return timezone.make_naive(value, zone)
    return value


def read_values(field: Field, operand: object) -> tuple[object, ...]:
    """Return the operand, one value or a list of them, as values of the field."""
    several = operand if isinstance(operand, (list, tuple, set, frozenset)) else [operand]
    if not several:
        msg = "a value is needed"
        raise ValueError(msg)
    return tuple(read_value(field, item) for item in several)


def require_order(field: Field, operand: object) -> None:
    """Raise unless one value of the field can be greater than another; there is no operand."""
    if isinstance(plain_field(field), _UNORDERED):
        msg = "its values can't be ordered"
        raise ValueError(msg)


def read_threshold(field: Field, operand: object) -> object:
    """Return the operand as a value of the field that others lie above and below of."""
    require_order(field, operand)
    value = read_value(field, operand)
    if value is None or isinstance(operand, (list, tuple, set, frozenset)) or value != value:
        msg = "one value is needed"
        raise ValueError(msg)
    return value


def read_step(field: Field, operand: object) -> Decimal | dt.timedelta:
    """Return the operand as a difference of two values of the field."""
    if isinstance(plain_field(field), _SPANS):
        if not isinstance(operand, dt.timedelta) or not operand > dt.timedelta():
            msg = "a positive datetime.timedelta is needed"
            raise ValueError(msg)
        return operand
    return read_amount(field, operand)


def read_amount(field: Field, operand: object) -> Decimal:
    """Return the operand as the positive number by which a numeric field rises or falls."""
    if isinstance(plain_field(field), (*_STEPLESS, *_SPANS)):
        msg = "its values aren't numbers"
        raise ValueError(msg)
    number = _number(operand)
    if not number > 0:
        msg = "a positive number is needed"
        raise ValueError(msg)
    return number


def _number(operand: object) -> Decimal:
    try:
        number = None if isinstance(operand, bool) else Decimal(str(operand))
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        msg = "a number is needed"
        raise ValueError(msg)
    return number


def _exact(value: object) -> object:
    # 0.3 - 0.1 is not 0.2 in binary.
    return Decimal(repr(value)) if isinstance(value, float) and math.isfinite(value) else value


def rose_by(old: Any, new: Any, by: object) -> bool:
    """Return whether the value rose at least so far."""
    old, new = _exact(old), _exact(new)
    if isinstance(old, float) or isinstance(new, float):
        return float(new) - float(old) == math.inf  # to or from infinity, or what is no number
    with localcontext(EXACT_DECIMALS):
        return bool(new - old >= by)


def rose_by_percent(old: Any, new: object, percent: Decimal) -> bool:
    """Return whether the value rose by so many percent of what it was; from zero, every rise is more than that."""
    old, new = _exact(old), _exact(new)
    if isinstance(old, float) or isinstance(new, float):
        return False  # infinity has no percentages
    with localcontext(EXACT_DECIMALS):
        return bool((new - old) * 100 >= percent * abs(old))  # not divided, so that nothing is rounded at the boundary


def fell_by_percent(old: Any, new: Any, percent: Decimal) -> bool:
    """Return whether the value fell by so many percent of what it was."""
    old, new = _exact(old), _exact(new)
    if isinstance(old, float) or isinstance(new, float):
        return False
    with localcontext(EXACT_DECIMALS):
        return bool((old - new) * 100 >= percent * abs(old))


Condition: TypeAlias = Callable[[Change], bool]
Test: TypeAlias = Callable[[Any, Any, Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What an operator asks of ``(old, new, operand)``, and how its operand is read from the settings."""

    test: Test
    read: Callable[[Field, Any], Any]
    # Whether it can hold without an old row, and without a new one.
    on_create: bool = False
    on_delete: bool = False
    # Whether it compares the two values, so that neither may be null.
    compares: bool = True
    # 1 for an increase, -1 for a decrease, to find conditions that ask for both.
    direction: int = 0


OPERATORS: dict[str, Operator] = {
    "from": Operator(test=lambda old, _new, operand: old in operand, read=read_values, on_delete=True, compares=False),
    "to": Operator(test=lambda _old, new, operand: new in operand, read=read_values, on_create=True, compares=False),
    "increased_by": Operator(test=rose_by, read=read_step, direction=1),
    "decreased_by": Operator(test=lambda old, new, by: rose_by(new, old, by), read=read_step, direction=-1),
    "increased_by_percent": Operator(test=rose_by_percent, read=read_amount, direction=1),
    "decreased_by_percent": Operator(test=fell_by_percent, read=read_amount, direction=-1),
    "crosses_above": Operator(test=lambda old, new, line: old <= line < new, read=read_threshold, direction=1),
    "crosses_below": Operator(test=lambda old, new, line: old >= line > new, read=read_threshold, direction=-1),
}
WORDS: dict[str, Operator] = {
    # What changes carry has changed, but for the nulls of a new or a deleted row.
    "changed": Operator(
        test=lambda old, new, _operand: old is not None or new is not None,
        read=read_value,
        on_create=True,
        on_delete=True,
        compares=False,
    ),
    "increased": Operator(test=lambda old, new, _operand: new > old, read=require_order, direction=1),
    "decreased": Operator(test=lambda old, new, _operand: new < old, read=require_order, direction=-1),
}
# What people write for an operator without a value, and for one with it.
WORD_SYNONYMS: dict[str, str] = {
    **dict.fromkeys(("change", "changes", "any", "*", "modified", "updated", "different", "edited"), "changed"),
    **dict.fromkeys(("up", "rise", "rises", "rose", "raised", "grows", "grew", "higher", "more", "+"), "increased"),
    **dict.fromkeys(("increase", "increases", "increasing"), "increased"),
    **dict.fromkeys(
        ("down", "drop", "drops", "dropped", "falls", "fell", "lowered", "lower", "less", "-"), "decreased"
    ),
    **dict.fromkeys(("decrease", "decreases", "decreasing", "reduced"), "decreased"),
}
OPERATOR_SYNONYMS: dict[str, str] = {
    **dict.fromkeys(("=", "==", "eq", "equals", "exact", "is", "in", "new", "becomes", "value", "after"), "to"),
    **dict.fromkeys(("was", "old", "before", "previous"), "from"),
    **dict.fromkeys((">", ">=", "gt", "gte", "above", "over", "exceeds", "greater_than"), "crosses_above"),
    **dict.fromkeys(("<", "<=", "lt", "lte", "below", "under", "less_than"), "crosses_below"),
    **dict.fromkeys(("increase_by", "rises_by", "up_by", "raised_by"), "increased_by"),
    **dict.fromkeys(("decrease_by", "drops_by", "falls_by", "down_by", "lowered_by"), "decreased_by"),
}
# What only a function can ask for.
NO_OPERATORS = (
    "and",
    "or",
    "not",
    "between",
    "range",
    "contains",
    "icontains",
    "startswith",
    "endswith",
    "regex",
    "!=",
)
NEAR = 0.7


@dataclass(frozen=True, slots=True)
class FieldTest:
    """One operator on one field. It does not hold for a field that did not change."""

    field: str
    operator: Operator
    operand: object
    is_changed: bool

    def __call__(self, change: Change) -> bool:
        """Return whether the operator holds for the change."""
        values = change.fields.get(self.field)
        if values is None:
            return self.is_changed and bool(change.members.get(self.field))
        if change.event_type == EventType.CREATE and not self.operator.on_create:
            return False
        if change.event_type == EventType.DELETE and not self.operator.on_delete:
            return False
        if self.operator.compares and (values.old is None or values.new is None):
            return False
        return self.operator.test(values.old, values.new, self.operand)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds if every one of its tests does."""

    tests: tuple[FieldTest, ...]

    def __call__(self, change: Change) -> bool:
        """Return whether all hold for the change."""
        return all(test(change) for test in self.tests)


def _parts(spec: Any) -> list[tuple[str, Operator, object]]:
    """Return the operators of one field with their operands, once they are known to be right."""
    pairs: Mapping[str, Any] = {spec: None} if isinstance(spec, str) else spec
    return [(key, WORDS.get(key) or OPERATORS[key], operand) for key, operand in pairs.items()]


def compile_when(when: Mapping[str, object], fields: Mapping[str, Field]) -> Condition:
    """Return the condition for a ``when`` mapping whose problems were ruled out.

    Args:
        when: Field name to operator.
        fields: The model's fields by name, m2m fields among them.

    """
    return AllOf(
        tuple(
            FieldTest(name, operator, operator.read(fields[name], operand), key == "changed")
            for name, spec in when.items()
            for key, operator, operand in _parts(spec)
        )
    )


def can_hold(spec: object, field: Field, event_type: str) -> bool:
    """Return whether the operators of one field, known to be right, can hold for any change of this type."""
    if isinstance(field, models.ManyToManyField):
        return event_type in (EventType.M2M, EventType.DELETE)
    if field.primary_key or event_type == EventType.M2M:
        return False
    operators = [operator for _, operator, _ in _parts(spec)]
    if event_type == EventType.CREATE:
        return all(operator.on_create for operator in operators)
    if event_type == EventType.DELETE:
        return all(operator.on_delete for operator in operators)
    return {1, -1} - {operator.direction for operator in operators} != set() and not _contradicts(spec, field)


def _contradicts(spec: object, field: Field) -> bool:
    """Return whether the values after ``to`` are none that the other operators ask for."""
    if not isinstance(spec, Mapping) or "to" not in spec:
        return False
    news = read_values(field, spec["to"])
    asked = [(operator, operator.read(field, operand)) for _, operator, operand in _parts(spec)]
    try:
        if "from" in spec:
            pairs = [(old, new) for old in read_values(field, spec["from"]) for new in news if old != new]
            return not any(all(_holds(operator, *pair, operand) for operator, operand in asked) for pair in pairs)
        # From the threshold itself, every value beyond it crosses it.
        lines = [(OPERATORS[key], read_threshold(field, spec[key])) for key in _CROSSING if key in spec]
        return any(not any(_holds(operator, line, new, line) for new in news) for operator, line in lines)
    except Exception:  # noqa: BLE001  # values of all kinds are compared, and each fails in its own way
        return False


_CROSSING = ("crosses_above", "crosses_below")


def _holds(operator: Operator, old: object, new: object, operand: object) -> bool:
    return not (operator.compares and (old is None or new is None)) and operator.test(old, new, operand)


def when_problems(when: Mapping[Any, object], fields: Mapping[str, Field], path: str) -> list[Problem]:
    """Return what is wrong with a ``when`` mapping for a model with these fields; unknown fields are the caller's."""
    return [
        problem
        for name, spec in when.items()
        if name in fields
        for problem in _spec_problems(spec, fields[name], f'{path}["{name}"]')
    ]


# Values that have an order, but whose order means nothing.
_NOT_AMOUNTS = (models.BooleanField, models.ForeignKey, models.UUIDField)


def order_problems(when: Mapping[Any, Any], fields: Mapping[str, Field], path: str) -> Iterator[Problem]:
    """Warn of rises and falls of flags and keys in a ``when`` mapping that has no mistakes."""
    for name, spec in when.items():
        field = fields.get(name)
        for key, operator, _operand in _parts(spec) if isinstance(field, _NOT_AMOUNTS) else ():
            if operator.direction:
                hint = 'Use "changed", or {"to": …} with a key.'
                if isinstance(field, models.BooleanField):
                    hint = f'Use {{"to": {operator.direction > 0}}}.'
                message = f"asks for {key!r} of {type(field).__name__} {name!r}, whose values aren't amounts."
                yield Problem("W092", f'{path}["{name}"]', message, hint)


# What was added or removed is for a function to tell.
_ONLY_CHANGED = 'Use "changed". For what was added or removed, write a function that reads change.members.'


def _spec_problems(spec: object, field: Field, path: str) -> list[Problem]:
    if isinstance(spec, str):
        if spec in WORDS:
            return _use_problems(spec, None, field, path)
        hint = _ONLY_CHANGED if isinstance(field, models.ManyToManyField) else _word_hint(spec, field)
        return [Problem("E012", path, f"is {shown(spec)}, which isn't an operator.", hint)]
    if not isinstance(spec, Mapping) or not spec:
        such = f', such as {{"to": {shown(spec)}}}' if not isinstance(spec, Mapping) and _is_value(spec) else ""
        hint = f"Write one of {', '.join(WORDS)}, or a dict with {', '.join(OPERATORS)}{such}."
        return [Problem("E012", path, f"must be an operator, not {shown(spec)}.", hint)]
    return [problem for key, operand in spec.items() for problem in _operand_problems(key, operand, field, path)]


def _word_hint(word: str, field: Field) -> str:
    """Return what to write in place of a text that is no operator: most likely it is an operator or a value."""
    plain, to = word.strip().lower(), f'Use {{"to": {_quoted(word)}}}.'
    if word in OPERATORS:
        return f"{word} takes a value: write {{{word!r}: …}}."
    choices = choices_of(field) or {}
    if word in choices or plain in {label.lower() for label in choices.values()}:
        return to
    near = WORD_SYNONYMS.get(plain) or nearest(plain, WORDS, NEAR)
    if near:
        return f"Did you mean {near!r}?"
    operator = OPERATOR_SYNONYMS.get(plain) or nearest(plain, OPERATORS, NEAR)
    if operator:
        return f"{operator} takes a value: write {{{operator!r}: …}}."
    return f"{to[:-1]}, or one of {', '.join(WORDS)}."


def _quoted(word: str) -> str:
    text = shown(word)
    return f'"{text[1:-1]}"' if text[0] == text[-1] == "'" and '"' not in text else text


def _is_value(spec: object) -> bool:
    """Return whether something that is no operator may be the value that somebody waits for."""
    if isinstance(spec, (list, tuple, set, frozenset)):
        return bool(spec) and all(not isinstance(item, (list, tuple)) and _is_value(item) for item in spec)
    return spec is None or isinstance(spec, (str, bool, int, float, Decimal, dt.date, dt.timedelta, UUID))


def _operand_problems(key: object, operand: object, field: Field, path: str) -> list[Problem]:
    if key not in OPERATORS:
        near = key if key in WORDS else nearest_operator(key)
        hint = f'"{near}" takes no value: write it alone.' if near in WORDS else f"Did you mean {near!r}?"
        if near is None:
            hint = did_you_mean(key, [*OPERATORS, *WORDS])
        if isinstance(key, str) and key.strip().lower() in NO_OPERATORS:
            hint = "Write a function that takes the change, and its dotted path as the condition of the rule."
        if isinstance(field, models.ManyToManyField):
            hint = _ONLY_CHANGED
        return [Problem("E012", path, f"has the key {shown(key)}, which isn't an operator that takes a value.", hint)]
    return _use_problems(key, operand, field, path)


def nearest_operator(key: object) -> str | None:
    """Return the operator that a key of a condition most likely means, None if none is near."""
    word = key.strip().lower() if isinstance(key, str) else ""
    return OPERATOR_SYNONYMS.get(word) or WORD_SYNONYMS.get(word) or nearest(key, [*OPERATORS, *WORDS])


def _use_problems(key: str, operand: object, field: Field, path: str) -> list[Problem]:
    """Return why the field cannot have this operator, or the operator this operand."""
    if isinstance(field, models.ManyToManyField):
        message = f"is {key!r}, which doesn't work for a many-to-many field."
        return [] if key == "changed" else [Problem("E012", path, message, _ONLY_CHANGED)]
    operator = WORDS.get(key) or OPERATORS[key]
    try:
        operator.read(field, operand)
    except Exception as error:  # noqa: BLE001  # fields of all kinds convert the value, each fails in its own way
        reason = _reason(error)
        what = f"{type(field).__name__} {field.name!r}"
        if key in WORDS:
            return [Problem("E012", path, f"is {key!r}: {reason}.", f'Use "changed" for {what}.')]
        hint = f"Give a value that {what} can be compared with. {_meant_operand(operator, field, operand)}".rstrip()
        return [Problem("E012", f'{path}["{key}"]', f"cannot be {shown(operand)}: {reason}.", hint)]
    return []


def _meant_operand(operator: Operator, field: Field, operand: object) -> str:
    """Return the edit that makes ``"20%"`` or a negative number right: the operator says the direction."""
    if isinstance(operand, models.Model):
        return f"Write its primary key, {shown(operand.pk)}."
    if isinstance(field, models.ForeignKey):
        return f"Write the primary key of the {field.target_field.model._meta.label}."
    if not isinstance(operand, (str, int, float, Decimal)) or isinstance(operand, bool):
        return ""
    text = str(operand).strip().removesuffix("%").strip().removeprefix("-")
    try:
        number = Decimal(text)
        operator.read(field, number)
    except Exception:  # noqa: BLE001  # fields of all kinds convert the value, each fails in its own way
        return ""
    return f"Write {text}." if number else ""


def _reason(error: Exception) -> str:
    try:
        text = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    except Exception:  # noqa: BLE001  # the message quotes the operand, and not all of them can be shown
        text = ""
    return text.rstrip(".") or type(error).__name__
