"""Values of conditions that a field with choices cannot have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from django.db import models

from django_signal_audit.events.values import plain_field
from django_signal_audit.problems import Problem, nearest, shown

Field: TypeAlias = "models.Field[Any, Any]"


def choices_of(field: Field) -> dict[Any, str] | None:
    """Return the values that a field can have by its choices, with their labels; None if it may have any."""
    try:
        pairs = [(value, str(label)) for value, label in field.flatchoices]
        return dict(pairs) if pairs else None
    except Exception:  # noqa: BLE001  # choices may be the project's code, which may ask a table that is not there yet
        return None


def choice_problems(
    when: Mapping[Any, object], models_fields: Sequence[Mapping[str, Field]], path: str
) -> list[Problem]:
    """Return warnings about values after ``from`` and ``to`` that no field of that name can have.

    Args:
        when: A condition without mistakes.
        models_fields: The fields by name of each model that the rule is about.
        path: Where the condition stands.

    """
    problems = []
    for name, spec in when.items():
        fields = [fields[name] for fields in models_fields if name in fields]
        for key in ("from", "to"):
            operand = spec.get(key) if isinstance(spec, Mapping) else None
            for value in operand if isinstance(operand, (list, tuple, set, frozenset)) else [operand]:
                known = _known(value, fields)
                if known is not None:
                    message = f"names {shown(value)}, which isn't one of the field's choices."
                    problems.append(Problem("W032", f'{path}["{name}"]["{key}"]', message, _hint(value, known)))
    return problems


def _known(value: object, fields: Iterable[Field]) -> dict[object, str] | None:
    """Return the choices of the fields if none of them can have the value, None if one can."""
    every: dict[Any, str] = {}
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
