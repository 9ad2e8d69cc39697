"""Comparing one row with what is recorded of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Model, TextChoices
from django.utils.dateparse import parse_date, parse_datetime, parse_duration, parse_time
from django.utils.translation import gettext_lazy as _

from django_signal_audit.capture.images import CHUNK, Image, ImageReader
from django_signal_audit.capture.inheritance import with_tables
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.capture.through_rows import M2MRelation
from django_signal_audit.events.documents import ERASED_TAG, MASK_KEY, JSONValue, canonical_json, mask, unescaped
from django_signal_audit.events.keys import beginning, object_id, parse_id, row_name
from django_signal_audit.events.masking import is_stand_in
from django_signal_audit.events.payloads import member_names
from django_signal_audit.events.secret_fields import has_secret_key
from django_signal_audit.events.values import at_scale, encode, plain_field, shorten
from django_signal_audit.models.renames import former_scopes
from django_signal_audit.models.state import RecordedState, member_order
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.serializers import scope_of

Field: TypeAlias = "models.Field[Any, Any]"

# A masked number had at most so many decimal places before its column was altered.
_MOST_PLACES = 20


def is_same(field: Field, recorded: JSONValue, actual: object) -> bool:
    """Return whether a recorded value that is neither masked nor a digest is the value of a column.

    A migration that alters the type of a column leaves the recorded values as they were: ``"1.50"`` is the 1.5000 of
    a column with more decimal places, and 3 the 3.00 of a column that held integers.

    Args:
        field: The field as it is now.
        recorded: The value as events have it.
        actual: What the column holds, in Python.

    """
    encoded = encode(field, actual)
    if canonical_json(recorded) == canonical_json(encoded):
        return True
    plain = plain_field(field)
    if recorded is None or encoded is None or isinstance(plain, models.JSONField):
        return False
    convert = next((convert for kind, convert in _CONVERTERS if isinstance(plain, kind)), None)
    if convert is None:
        return False
    try:
        return bool(convert(recorded) == convert(encoded))
    except (ValueError, TypeError, ArithmeticError, ValidationError):
        return False


def spellings(field: Field, actual: object) -> Iterator[JSONValue]:
    """Yield the JSON that a value of the column may have been recorded as before its column was altered.

    Tags and digests can be compared only with tags and digests of the same text.
    """
    encoded = encode(field, actual)
    yield encoded
    number = _as_number(encoded)
    if number is None or isinstance(plain_field(field), models.JSONField):
        return
    if number == number.to_integral_value():
        yield int(number)
        yield str(int(number))
        yield repr(float(number))
    for places in range(_MOST_PLACES + 1):
        spelled = at_scale(number, places)
        if spelled == number:
            yield format(spelled, "f")


def _as_number(value: JSONValue) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        number = Decimal(value)
        return number if number.is_finite() and abs(number.adjusted()) <= _MOST_PLACES else None
    except ArithmeticError:
        return None


def _number(value: JSONValue) -> Decimal:
    # A bool is an int here: columns of booleans become columns of numbers, and the other way round.
    return Decimal(value) if isinstance(value, (int, str)) else Decimal(repr(value))


def _moment(value: JSONValue) -> dt.datetime:
    """Return the moment; a date is its midnight, and naive times are in UTC, as databases convert them."""
    text = str(value)
    found = parse_datetime(text) or dt.datetime.combine(parse_date(text) or _refuse(text), dt.time())
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _refuse(text: str) -> Any:
    msg = f"{text!r} isn't a date"
    raise ValueError(msg)


def _text(value: JSONValue) -> str:
    if isinstance(value, (dict, list)):
        raise TypeError
    return str(value)


def _time(value: JSONValue) -> dt.time:
    return parse_time(str(value)) or _refuse(str(value))


def _duration(value: JSONValue) -> dt.timedelta:
    found = parse_duration(str(value))
    return _refuse(str(value)) if found is None else found


_CONVERTERS: tuple[tuple[Any, Callable[[JSONValue], Any]], ...] = (
    ((models.DecimalField, models.IntegerField, models.BooleanField), _number),
    (models.FloatField, lambda value: float(_number(value))),
    (models.DateField, _moment),  # DateTimeField is a DateField
    (models.TimeField, _time),
    (models.DurationField, _duration),
    (models.UUIDField, lambda value: UUID(str(value))),
    (models.GenericIPAddressField, lambda value: models.GenericIPAddressField().to_python(value)),
    ((models.CharField, models.TextField, models.FileField), _text),
)


class Kind(TextChoices):
    """The ways in which audit log and table can differ."""

    VALUE = "value", _("the row's value differs from the recorded value")
    MEMBERS = "members", _("the row's members differ from the recorded members")
    UNRECORDED = "unrecorded", _("no recorded history; run audit_baseline")
    UNSTARTED = "unstarted", _("no recorded creation, only changes; run audit_baseline")
    DELETED = "deleted", _("the row exists, but its last recorded event is a deletion")
    GONE = "gone", _("the row is gone, but no deletion is recorded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference.

    ``recorded`` and ``actual`` are JSON as events have it: a secret is its tag, what is over-long a digest. Both are
    None, and ``field`` is empty, where the difference concerns the row as a whole.
    """

    model: type[Model]
    pk: Any
    kind: Kind
    field: str = ""
    recorded: JSONValue = None
    actual: JSONValue = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A field, or with an empty name a whole model, that was not compared, in some rows or in all."""

    model: type[Model]
    field: str
    reason: str
    # In how many rows; None for all there are.
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row as its table has it."""

    pk: Any
    # The text by which the audit log names it.
    name: str
    image: Image
    # The keys of its members by m2m field, as JSON and sorted.
    members: dict[str, list[Any]]

    def shown_pk(self, model: type[models.Model]) -> object:
        """Return the primary key as others may see it: the row's name where the key is a secret."""
        return self.name if has_secret_key(model) else self.pk


class RowReader:
    """Reads the rows that are the plan's own: those that ruled multi-table children extend are told of as theirs.

    Args:
        plan: The plan of the model.
        using: The database.
        members: The names of the m2m fields to read.

    """

    def __init__(self, plan: ModelPlan, using: str, members: Iterable[str]) -> None:
        self.plan = plan
        self.using = using
        self.images = ImageReader(plan, using)
        self._relations = [M2MRelation(plan.all_members[name], (plan,)) for name in sorted(members)]

    def count(self) -> int:
        """Return the number of rows in the table, children's among them."""
        return rows_of(self.plan.model, self.using).count()

    def key_chunks(self, size: int = CHUNK) -> Iterator[list[object]]:
        """Return the keys of all rows in chunks; between two of them nothing is held open."""
        rows = rows_of(self.plan.model, self.using).order_by("pk").values_list("pk", flat=True)
        keys = list(rows[:size])
        while keys:
            yield keys
            keys = list(rows.filter(pk__gt=keys[-1])[:size]) if len(keys) == size else []

    def read(self, keys: Sequence[object], *, lock: bool = False) -> list[StoredRow]:
        """Return the rows with these keys that are there and the plan's own, in the order of the keys.

        Args:
            keys: The keys.
            lock: Whether nobody else may write the rows or their members until the transaction ends.

        """
        images: list[Image] = []
        extended: set[object] = set()
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            images += self.images.read(self.images.rows(deleting=True, lock=lock).filter(pk__in=chunk).order_by("pk"))
            extended |= self._extended(chunk)
        own = [image for image in images if self.images.key(image) not in extended]
        members = self._members(own, lock=lock)
        rows = []
        for position, image in enumerate(own):
            pk = self.images.key(image)
            rows.append(
                StoredRow(
                    pk, row_name(self.plan.model, pk), image, {name: of[position] for name, of in members.items()}
                )
            )
        return rows

    def _extended(self, keys: Sequence[object]) -> set[object]:
        found: set[Any] = set()
        for child in with_tables(self.plan.descendants, self.using):
            link = self.plan.model._meta.pk_fields[0]
            rows = rows_of(child.model, self.using).filter(**{f"{link.name}__in": keys})
            found |= set(rows.order_by().values_list(link.attname, flat=True))
        return found

    def _members(self, images: Sequence[Image], *, lock: bool) -> dict[str, list[list[Any]]]:
        """Return the members' keys by field, for each image in turn."""
        found = {}
        for relation in self._relations:
            attname = relation.owner_link.target_field.attname
            owners = [self.images.value(image, attname) for image in images]
            by_owner: dict[Any, list[Any]] = {}
            for start in range(0, len(owners), CHUNK):
                for owner, member in self._pairs(relation, owners[start : start + CHUNK], lock=lock):
                    by_owner.setdefault(owner, []).append(member)
            found[relation.field.name] = [sorted(by_owner.get(owner, ()), key=member_order) for owner in owners]
        fields = self.plan.all_members
        return {name: [member_names(fields[name], keys) for keys in lists] for name, lists in found.items()}

    def _pairs(self, relation: M2MRelation, owners: Sequence[object], *, lock: bool) -> Iterable[Any]:
        condition = relation.of_owner(*owners)
        if lock:
            return relation.pairs(self.using, condition)
        links = (relation.owner_link.attname, relation.member_link.attname)
        return rows_of(relation.through, self.using).filter(condition).order_by().values_list(*links)


def first_row_names(model: type[models.Model], using: str, count: int) -> list[str]:
    """Return the names in the audit log of the first rows by primary key."""
    keys = rows_of(model, using).order_by("pk").values_list("pk", flat=True)[:count]
    return [row_name(model, pk) for pk in keys]


def rows_named(model: type[models.Model], names: Sequence[str], using: str) -> set[str]:
    """Return the names in the audit log of the rows of a model that are there, out of these names."""
    every = rows_of(model, using).order_by()
    if has_secret_key(model):
        # A tag does not lead back to its key, so the tags of all rows are made.
        wanted, known = set(names), every.values_list("pk", flat=True)
        return {name for pk in known.iterator(chunk_size=CHUNK) if (name := row_name(model, pk)) in wanted}
    keys = [key for name in names if (key := parse_id(model, name)) is not None]
    found = set(map(object_id, every.filter(pk__in=keys).values_list("pk", flat=True)))
    for start in filter(None, map(beginning, names)):
        found |= set(map(object_id, every.filter(pk__startswith=start).values_list("pk", flat=True)))
    return found


class Comparison:
    """Compares rows of one plan's model, in the fields whose every change is recorded."""

    def __init__(self, plan: ModelPlan, using: str) -> None:
        self.plan = plan
        self._images = ImageReader(plan, using)
        self._fields = {name: field for name, field in plan.all_fields.items() if name in plan.covered}
        self.members = sorted(plan.covered & set(plan.all_members))

    def of_row(self, row: StoredRow, states: Sequence[RecordedState]) -> Iterator[Difference]:
        """Return how a row that is there differs from all of the states that it may have been in when it was read."""
        told = [state for state in states if state.values is not None]
        if not told:
            kind = Kind.DELETED if any(state.is_told for state in states) else Kind.UNRECORDED
            yield self._difference(row.shown_pk(self.plan.model), kind)
            return
        if not any(state.has_start for state in told):
            yield self._difference(row.shown_pk(self.plan.model), Kind.UNSTARTED)
        values = [state.values for state in told if state.values is not None]
        yield from self._of_fields(row, values)
        yield from self._of_members(row, values)

    def of_nothing(self, pk: object, states: Sequence[RecordedState]) -> Iterator[Difference]:
        """Return how a row that is not there differs from all of the states it may have been in."""
        if all(state.values is not None for state in states):
            yield self._difference(pk, Kind.GONE)

    def untold(self, state: RecordedState) -> list[str]:
        """Return the compared fields that no event of the row has."""
        values = state.values or {}
        return [name for name in self._fields if name not in values]

    def _of_fields(self, row: StoredRow, values: Sequence[dict[str, Any]]) -> Iterator[Difference]:
        for name, actual in self._images.row(row.image, self.plan.covered).items():
            recorded = [known[name] for known in values if name in known]
            if recorded and not any(self.is_recorded(name, row.pk, one, actual) for one in recorded):
                shown = self.plan.serializers[name](actual, row.pk)
                yield self._difference(row.shown_pk(self.plan.model), Kind.VALUE, name, recorded[-1], shown)

    def _of_members(self, row: StoredRow, values: Sequence[dict[str, Any]]) -> Iterator[Difference]:
        for name in self.members:
            actual = sorted(row.members[name], key=member_order)
            recorded = [known.get(name, []) for known in values]
            if actual not in recorded:
                yield self._difference(row.shown_pk(self.plan.model), Kind.MEMBERS, name, recorded[-1], actual)

    def is_recorded(self, name: str, pk: object, recorded: JSONValue, actual: object) -> bool:
        """Return whether the value is the recorded one; tags and digests are compared with those of the value."""
        field = self._fields[name]
        if recorded == {MASK_KEY: ERASED_TAG}:
            return True  # nothing is known of it any more
        if not is_stand_in(recorded) and not isinstance(recorded, (dict, list)):
            return is_same(field, recorded, actual)
        # Inner secrets may lie in what is too long, so both what is kept now and what would be in clear are compared.
        kept, own = self.plan.serializers[name](actual, pk), scope_of(field, pk)
        # Tags may have been made before the model or the field was renamed.
        scopes = (own, *former_scopes(field, own[1]))
        return any(_agree(recorded, one, kept, scope) for scope in scopes for one in spellings(field, actual))

    def _difference(
        self, pk: object, kind: Kind, field: str = "", recorded: JSONValue = None, actual: JSONValue = None
    ) -> Difference:
        return Difference(model=self.plan.model, pk=pk, kind=kind, field=field, recorded=recorded, actual=actual)


def _agree(recorded: JSONValue, actual: JSONValue, kept: JSONValue, scope: tuple[str, ...]) -> bool:
    """Return whether a recorded value describes the actual one, whichever of its parts are masked now or were then.

    Args:
        recorded: What is recorded.
        actual: The value in clear.
        kept: What is kept of it now.
        scope: The scope of its tag.

    """
    if is_stand_in(recorded) or not isinstance(recorded, (dict, list)):
        return canonical_json(recorded) in map(canonical_json, _forms(recorded, actual, kept, scope))
    parts = _parts(recorded)
    actuals, keeps = _parts(actual), _parts(kept)
    return (
        type(recorded) is type(actual)
        and parts.keys() == actuals.keys()
        and all(_agree(part, actuals[key], keeps.get(key, actuals[key]), (*scope, key)) for key, part in parts.items())
    )


def _forms(recorded: JSONValue, actual: JSONValue, kept: JSONValue, scope: tuple[str, ...]) -> Iterator[JSONValue]:
    yield kept
    if not is_stand_in(recorded):
        yield actual
    elif MASK_KEY in recorded:  # type: ignore[operator]
        yield mask(scope, actual)
    else:
        yield shorten(actual, max_bytes=-1)
        yield shorten(kept, max_bytes=-1)


def _parts(value: JSONValue) -> dict[str, JSONValue]:
    """Return the parts of a list or an object by the steps of their paths."""
    if isinstance(value, list):
        return {str(position): item for position, item in enumerate(value)}
    return unescaped(value) if isinstance(value, dict) else {}
