"""Values of conditions that a field cannot have: they are none of its choices, or its column does not hold them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from django.db import DEFAULT_DB_ALIAS, connections, models

from django_signal_audit.events.values import at_scale, converts_by_itself, plain_field
from django_signal_audit.problems import Problem, nearest, shown

Field: TypeAlias = "models.Field[Any, Any]"


def choices_of(field: Field) -> dict[object, str] | None:
    """Return the values that a field can have by its choices, with their labels; None if it may have any."""
    try:
        pairs = [(value, str(label)) for value, label in field.flatchoices]
        return dict(pairs) if pairs else None
    except Exception:  # noqa: BLE001  # choices may be the project's code, which may ask a table that is not there yet
        return None


def operand_problems(
    when: Mapping[Any, object], models_fields: Sequence[Mapping[str, Field]], path: str
) -> list[Problem]:
    """Return warnings about values of a condition that no field of that name can have.

    Args:
        when: A condition without mistakes.
        models_fields: The fields by name of each model that the rule is about.
        path: Where the condition stands.

    """
    return [
        problem
        for name, spec in when.items()
        if isinstance(spec, Mapping)
        for key in ("from", "to", "crosses_above", "crosses_below")
        if key in spec
        for value in _several(spec[key])
        for problem in _value_problems(
            key, value, [fields[name] for fields in models_fields if name in fields], f'{path}["{name}"]["{key}"]'
        )
    ]


def _several(operand: object) -> Iterable[object]:
    return operand if isinstance(operand, (list, tuple, set, frozenset)) else [operand]


def _value_problems(key: str, value: object, fields: Sequence[Field], path: str) -> Iterator[Problem]:
    is_line = key.startswith("crosses")
    known = None if is_line else _known(value, fields)
    mistakes = [capacity_mistake(field, value, is_line=is_line) for field in fields]
    if known is not None:
        message = f"names {shown(value)}, which isn't one of the field's choices."
        yield Problem("W032", path, message, _hint(value, known))
    elif mistakes and all(mistakes):
        what, hint = mistakes[0] or ("", "")
        yield Problem("W036", path, f"names {shown(value)}, {what}: no row has it.", hint)


def capacity_mistake(field: Field, value: object, *, is_line: bool = False) -> tuple[str, str] | None:
    """Return why the column of a field can't hold a value, and the edit to make; None if it may hold it.

    Args:
        field: The field. What a class of its own converts, and what a table holds that Django didn't make, isn't known.
        value: The value as the settings have it, which the field can read.
        is_line: Has the column to have values beyond it, rather than the value itself?

    """
    plain = plain_field(field)
    if not field.model._meta.managed or converts_by_itself(plain):
        return None
    if value is None:
        # JSON has a null of its own, and what a generated column makes isn't known.
        may_be_null = field.null or isinstance(field, (models.GeneratedField, models.JSONField))
        return None if may_be_null or is_line else _null_mistake(plain)
    found = _read(plain, value)
    if isinstance(plain, (models.CharField, models.FileField)) and not is_line:
        return _length_mistake(str(found), plain.max_length)
    if isinstance(plain, models.DecimalField) and isinstance(found, Decimal):
        return _decimal_mistake(plain, found, is_line=is_line)
    if isinstance(plain, models.IntegerField) and isinstance(found, int):
        return _range_mistake(plain, found)
    return ("which equals nothing", "Remove it.") if isinstance(found, float) and math.isnan(found) else None


def _null_mistake(plain: Field) -> tuple[str, str]:
    is_text = isinstance(plain, (models.CharField, models.TextField, models.FileField))
    hint = 'Write "" for an empty text.' if is_text else "Remove it, or name a value."
    return "and the field has no null=True", hint


def _length_mistake(text: str, longest: int | None) -> tuple[str, str] | None:
    if longest is None or len(text) <= longest:
        return None
    hint = f"Write at most {longest} character{'' if longest == 1 else 's'}."
    return f"which has {len(text)} characters, and the field holds {longest}", hint


def _decimal_mistake(plain: Any, number: Decimal, *, is_line: bool) -> tuple[str, str] | None:
    places, digits = plain.decimal_places, plain.max_digits
    if not number.is_finite():
        return "which is no number", "Write a number."
    if places is None or digits is None:
        return None  # Django 6.1 has columns of any precision
    if abs(number) >= 10 ** (digits - places):
        whole = digits - places
        message = f"and the field holds {whole} digit{'' if whole == 1 else 's'} before the point"
        return message, "Write a smaller number."
    rounded = at_scale(number, places)
    if is_line or rounded == number:
        return None
    return f"and the field holds {places} decimal place{'' if places == 1 else 's'}", f'Write "{rounded}".'


def _range_mistake(plain: models.IntegerField[Any, Any], number: int) -> tuple[str, str] | None:
    # Asking the project's routers while rules are read could do anything, and databases differ little in this.
    least, greatest = connections[DEFAULT_DB_ALIAS].ops.integer_field_range(plain.get_internal_type())
    if (least is None or least <= number) and (greatest is None or number <= greatest):
        return None
    return f"and the column holds {least} to {greatest}", "Write a number between them."


def _known(value: object, fields: Iterable[Field]) -> dict[object, str] | None:
    """Return the choices of the fields if none of them can have the value, None if one can."""
    every: dict[object, str] = {}
    for field in fields:
        choices = choices_of(field)
        if choices is None or value is None or (value == "" and field.blank) or _is_among(value, choices, field):
            return None
        every |= choices
    return every or None


def _is_among(value: object, choices: Iterable[object], field: Field) -> bool:
    plain = plain_field(field)
    read = _read(plain, value)
    return any(choice in (value, read) or _read(plain, choice) == read for choice in choices)


def _read(plain: Field, value: object) -> object:
    try:
        return plain.to_python(value)
    except Exception:  # noqa: BLE001  # fields of all kinds convert the value, each fails in its own way
        return value


def _hint(value: object, choices: Mapping[object, str]) -> str:
    by_label = {label.lower(): choice for choice, label in choices.items()}
    word = str(value).strip().lower()
    if word in by_label:
        return f"Write {_shown(by_label[word])}: {by_label[word]!s} is the value, and {shown(str(value))} its label."
    near = nearest(value, choices)
    if near is not None:
        return f"Did you mean {near!r}?"
    listed = ", ".join(map(_shown, list(choices)[:20]))
    return f"Its choices are: {listed}{', …' if len(choices) > 20 else ''}."


def _shown(choice: object) -> str:
    return repr(str(choice)) if isinstance(choice, str) else shown(choice)
