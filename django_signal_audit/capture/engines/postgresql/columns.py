"""How SQL describes the values of columns: as the JSON that the portable way makes of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeAlias

from django.db import connections, models

from django_signal_audit.capture.rows import certainties_of, unique_fields
from django_signal_audit.conf import get_settings
from django_signal_audit.enums import EventType
from django_signal_audit.events.keys import MAX_LENGTH
from django_signal_audit.events.masking import has_secrets
from django_signal_audit.events.secret_texts import OPENINGS
from django_signal_audit.events.values import plain_field
from django_signal_audit.rules.plans import ModelPlan

Field: TypeAlias = "models.Field[Any, Any]"
INTEGERS = (models.IntegerField, models.AutoField)


# Some collations take different texts for equal, and some have no regular expressions.
C = 'COLLATE "C"'


def tenant_sql(plan: ModelPlan, using: str) -> str | None:
    """Return the tenant of a row as SQL, ``""`` if rows name none; None if only Python can tell it."""
    path = plan.tenant
    if path is None:
        return ""
    plain = plain_field(path.column)
    is_short = isinstance(plain, models.CharField) and 0 < (plain.max_length or 0) <= MAX_LENGTH
    is_usual = type(plain).__module__.startswith("django.db.models.")
    if path.rest or not is_usual or not (is_short or isinstance(plain, (*INTEGERS, models.UUIDField))):
        return None
    quote = connections[using].ops.quote_name
    return f"coalesce({quote(plan.model._meta.db_table)}.{quote(str(path.column.column))}::text, '')"


class Telling(NamedTuple):
    """How SQL describes the values of a column: ``{0}`` stands for the old one, ``{1}`` for the new one."""

    # Both as a JSON array.
    pair: str = "jsonb_build_array({0}, {1})"
    # Can an old value be told so? Most can.
    condition: str = ""
    # Can a new one?
    tells: Callable[[Any, int], bool] = lambda _value, _limit: True
    is_text: bool = False


def _is_plain_text(value: Any, limit: int) -> bool:
    text = str(value or "")
    return len(text) * 4 <= limit and not has_secrets(text, is_column=True)


def _text_telling() -> Telling:
    # A text in which a secret may be named is looked through, and one that may be too long is counted.
    openings = ", ".join(str(ord(one)) for one in sorted(OPENINGS))
    longest = get_settings().max_value_bytes // 4
    condition = f"length({{0}}) <= {longest} AND ascii({{0}}) NOT IN ({openings}) AND {{0}} {C} !~ '[:=]'"
    return Telling(condition=condition, tells=_is_plain_text, is_text=True)


# What may name a secret in a text, wherever it stands in it.
_NAMING = f"{{0}} {C} ~ '[:=]|--' OR ascii({{0}}) IN (%s) OR lower(left({{0}}, 6) {C}) IN ('bearer', 'basic ')"


def is_silent(text: str, longest: int) -> str:
    """Return the condition that a text is there, is not too long, and that nothing has to be hidden because of it."""
    naming = _NAMING.format(text) % ", ".join(str(ord(one)) for one in sorted(OPENINGS))
    return f"(length({text}) <= {longest} AND NOT ({naming})) IS TRUE"


_IN_RANGE = "{0} BETWEEN '0001-01-02' AND '9999-12-30'"
_MOMENT = (
    "to_char({0} AT TIME ZONE 'UTC', CASE WHEN extract(microseconds FROM {0})::bigint %% 1000000 = 0"
    """ THEN 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"' END)"""
)


def telling_of(field: models.Field[Any, Any]) -> Telling | None:
    """Return how SQL describes the values of a field's column; None if it can't exactly."""
    plain: Any = plain_field(field)
    if isinstance(plain, (*INTEGERS, models.BooleanField, models.UUIDField)):
        return Telling()
    if isinstance(plain, models.DecimalField):
        return Telling("jsonb_build_array({0}::text, {1}::text)", "{0} <> 'NaN'", _is_number)
    if isinstance(plain, (models.CharField, models.TextField, models.FileField)):
        return _text_telling()
    if isinstance(plain, models.DateTimeField):
        pair = f"jsonb_build_array({_MOMENT}, {_MOMENT.replace('{0}', '{1}')})"
        return Telling(pair, _IN_RANGE, _is_in_range)
    if isinstance(plain, models.DateField):
        pair = "jsonb_build_array(to_char({0}, 'YYYY-MM-DD'), to_char({1}, 'YYYY-MM-DD'))"
        return Telling(pair, _IN_RANGE, _is_in_range)
    return None


def _is_number(value: Any, _limit: int) -> bool:
    return bool(value == value)  # NaN is not


def _is_in_range(value: Any, _limit: int) -> bool:
    return value is None or (isinstance(value, dt.date) and 1 < value.year < 9999)


class Column(NamedTuple):
    """One column that an UPDATE sets, and whose change it has to describe."""

    # Quoted.
    name: str
    field: str
    # How SQL describes a value; None for one that has to stay as it is.
    telling: Telling | None
    # The type that its value is sent as.
    kind: str
    # Whether others may refer to the row by it.
    is_key: bool = False

    @property
    def has_to_stay(self) -> bool:
        """Return whether the event can be made only if the column does not change."""
        return self.telling is None

    def is_told(self, old: str) -> str:
        """Return the condition under which this column does not keep the event from being made; empty for most."""
        if self.telling is None:
            return f"{old}::text {C} IS NOT DISTINCT FROM CAST(%s AS {self.kind})::text"
        condition = self.is_old_told(old)
        if not self.telling.is_text:
            return condition
        # Most texts stay as they are.
        return f"({old} {C} IS NOT DISTINCT FROM %s::text OR (%s::boolean AND {condition}))"

    def tells(self, value: object, limit: int) -> bool:
        """Return whether a new value can be told if it differs; a text's may be the one that is there."""
        return self.telling is None or self.telling.is_text or self.telling.tells(value, limit)

    def params(self, value: object, given: object, limit: int) -> list[object]:
        """Return the parameters of that condition, for a new value and what the statement is given for it."""
        if self.telling is None:
            return [given]
        return [given, self.telling.tells(value, limit)] if self.telling.is_text else []

    def is_old_told(self, old: str) -> str:
        """Return the condition under which an old value can be told; empty if it always can."""
        condition = "" if self.telling is None else self.telling.condition.format(old)
        return condition and f"({condition}) IS NOT FALSE"

    def differs(self, old: str, new: str) -> str:
        """Return the condition under which a new value is another one."""
        collation = C if self.telling is not None and self.telling.is_text else ""
        return f"{old} {collation} IS DISTINCT FROM {new}"

    def difference(self, old: str, new: str) -> str:
        """Return the name and the JSON of the change, null if there is none."""
        if self.telling is None:
            return ""
        name = self.field.replace("%", "%%").replace("'", "''")
        return f"'{name}', CASE WHEN {self.differs(old, new)} THEN {self.telling.pair.format(old, new)} END"


def columns_of(plan: ModelPlan, kind: type[models.Model], using: str, given: Collection[Field]) -> list[Column]:
    """Return the columns that matter of those that an UPDATE of objects of a class sets."""
    known: dict[Field, Column | None] = plan.certainties.setdefault(("columns", kind, using), {})
    for field in given:
        if field not in known:
            known[field] = _make_column(field, plan, kind, using)
    return [column for field in given if (column := known[field]) is not None]


def _make_column(field: Field, plan: ModelPlan, kind: type[models.Model], using: str) -> Column | None:
    connection = connections[using]
    is_audited = field.name in plan.names_for(EventType.UPDATE)
    # The lock of an UPDATE that changes a key for others is a stronger one.
    is_unique = field in unique_fields(plan.model)
    if not is_audited and not is_unique:
        return None
    is_certain = is_audited and field.name not in plan.secret and certainties_of(plan, kind, using)[field.name][1]
    telling = telling_of(field) if is_certain and not is_unique else None
    name = connection.ops.quote_name(str(field.column))
    return Column(name, field.name, telling, str(field.db_type(connection)), is_unique)
