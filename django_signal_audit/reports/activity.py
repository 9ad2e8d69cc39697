"""The activity report: how many events there are by model, event, actor, day and so on."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any, NamedTuple, TypeAlias

from django.db import connections
from django.db.models import Count, F, Max
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.events import BEFORE_ALL, Signature
from django_signal_audit.models.renames import current_label, current_name, get_renames
from django_signal_audit.problems import did_you_mean
from django_signal_audit.reports.base import Cell, Column, LazySeries, Report, Series, WrongArgument, cell_lines
from django_signal_audit.reports.formatter import local
from django_signal_audit.reports.functions import AnyOf, EachKey, Keys, Unit, known_signatures, much_memory, unit_for

# The annotation day and hour come from; see ``hours``.
MOMENT = "recorded_in"
# The annotation with the names of the changed fields.
FIELDS = "changed_fields"
# What all events of a signature have in common: the database counts by its number, of an index alone.
_SIGNED = frozenset({"model", "event_type", "rules"})
# More signatures than this are no longer named one by one.
MOST_SIGNATURES = 1000
# An event that came while the others were counted.
_UNKNOWN = Signature("", "", "", ())

Row: TypeAlias = Mapping[str, Any]
Key: TypeAlias = tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One way to sort events into groups.

    Attributes:
        columns: What names a group.
        needs: The columns of events (or MOMENT, or FIELDS) a group comes from.
        keys: The groups an event belongs to, one cell per column.
        is_plain: Are the columns of the events the group as they are?
        is_time: Do the groups follow each other in time?
        caption: The column with the name the group's newest event has for it, and where the event has it.

    """

    columns: tuple[Column, ...]
    needs: tuple[str, ...]
    keys: Callable[[Row], Iterable[Key]]
    is_plain: bool = False
    is_time: bool = False
    caption: tuple[Column, str] | None = None


def _plain(columns: dict[str, Column], caption: tuple[Column, str] | None = None) -> Dimension:
    needs = tuple(columns)
    return Dimension(
        columns=tuple(columns.values()),
        needs=needs,
        keys=lambda row: [tuple(current_label(row[need]) if need == "model" else row[need] for need in needs)],
        is_plain=True,
        caption=caption,
    )


def _listed(column: Column, need: str) -> Dimension:
    return Dimension(columns=(column,), needs=(need,), keys=lambda row: [(item,) for item in row[need] or ()])


def _period(column: Column, start: Callable[[dt.datetime], dt.date]) -> Dimension:
    return Dimension(columns=(column,), needs=(MOMENT,), keys=lambda row: [(start(local(row[MOMENT])),)], is_time=True)


def _hour(moment: dt.datetime) -> dt.datetime:
    offset = moment.utcoffset()
    # Within one time zone Python takes the two hours of the night the clock is put back for equal.
    return moment.replace(minute=0, tzinfo=None if offset is None else dt.timezone(offset))


_MODEL = Column("model", gettext_lazy("Model"))

DIMENSIONS: dict[str, Dimension] = {
    "model": _plain({"model": _MODEL}),
    "object": _plain(
        {"model": _MODEL, "object_id": Column("object_id", gettext_lazy("Key"))},
        caption=(Column("object", gettext_lazy("Object")), "object_repr"),
    ),
    "event": _plain({"event_type": Column("event", gettext_lazy("Event"))}),
    "actor": _plain(
        {"actor_id": Column("actor_id", gettext_lazy("Actor's key"))},
        caption=(Column("actor", gettext_lazy("Actor")), "actor_repr"),
    ),
    "rule": _listed(Column("rule", gettext_lazy("Rule")), "rules"),
    "field": _listed(Column("field", gettext_lazy("Field")), FIELDS),
    "tenant": _plain({"tenant": Column("tenant", gettext_lazy("Tenant"))}),
    "day": _period(Column("day", gettext_lazy("Day")), lambda moment: moment.date()),
    "hour": _period(Column("hour", gettext_lazy("Hour")), _hour),
}


# What people write for them.
_SYNONYMS = {
    **dict.fromkeys(("user", "users", "who", "username", "by"), "actor"),
    **dict.fromkeys(("type", "event_type", "action"), "event"),
    **dict.fromkeys(("date", "daily", "week", "month"), "day"),
    **dict.fromkeys(("time", "hourly"), "hour"),
    **dict.fromkeys(("pk", "id", "row", "instance"), "object"),
    **dict.fromkeys(("app", "table", "class"), "model"),
    "column": "field",
}


def get_dimension(name: str) -> Dimension:
    """Return the dimension of that name.

    Raises:
        WrongArgument: There is none.

    """
    if name not in DIMENSIONS:
        msg = f"Events cannot be counted by {name!r}. {did_you_mean(name, DIMENSIONS, synonyms=_SYNONYMS)}"
        raise WrongArgument(msg)
    return DIMENSIONS[name]


def _with_current_names(dimension: Dimension) -> Dimension:
    """Return a dimension that counts fields that were renamed under their names of today."""
    if FIELDS not in dimension.needs or not get_renames().fields:
        return dimension

    def keys(row: Row) -> Iterable[Key]:
        return dict.fromkeys((current_name(row["model"], name),) for name in row[FIELDS] or ())

    return replace(dimension, needs=(*dimension.needs, "model"), keys=keys)


DEFAULT_BY = ("model", "event")
COUNT = Column("count", gettext_lazy("Events"), is_number=True)
CHUNK = 2000
# Days or hours that are drawn with those in which nothing happened.
MOST_STEPS = 1000


class _Group(NamedTuple):
    """How many events there are of one key in each dimension, and the newest of them."""

    size: int = 0
    last: int = BEFORE_ALL


Groups: TypeAlias = dict[tuple[Key, ...], _Group]


def _signed_of(dimensions: Sequence[Dimension]) -> set[str]:
    """Return what is counted by the number of the signature."""
    needs = {need for dimension in dimensions for need in dimension.needs}
    # Of other columns the rows themselves are read anyway.
    return needs & (frozenset({"rules"}) if needs - _SIGNED - {MOMENT} else _SIGNED)


def _largest(events: AuditEventQuerySet, dimensions: Sequence[Dimension], top: int | None) -> Groups:
    """Return the groups that the database counts as the dimensions ask for them: there may be hundreds of thousands."""
    columns = list(dict.fromkeys(need for dimension in dimensions for need in dimension.needs))
    places = [[columns.index(need) for need in dimension.needs] for dimension in dimensions]
    rows = events.order_by().values(*columns).annotate(count=Count("id"), last=Max("id"))
    if top is not None:
        rows = rows.order_by("-count", *columns)[:top]
    return {
        tuple([tuple([values[place] for place in some]) for some in places]): _Group(*values[-2:])
        for values in _read(rows, (*columns, "count", "last"))
    }


def _rows(events: AuditEventQuerySet, dimensions: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Yield the groups that the database counts, with what the dimensions need."""
    needs = {need for dimension in dimensions for need in dimension.needs}
    signed = _signed_of(dimensions)
    signatures = known_signatures(events.db) if signed else {}
    if 0 < len(signatures) <= MOST_SIGNATURES:
        # With these an index has all that is counted, in the period alone.
        events = events.filter(signature__in=signatures)
    unit = unit_for(events.db, is_daily=DIMENSIONS["hour"] not in dimensions) if MOMENT in needs else None
    annotated = _annotations(events.db, needs, unit)
    columns = (*(needs - signed), *({"signature"} if signed else ()))
    names = (*columns, "count", "last")
    rows = events.annotate(**annotated).order_by()
    if FIELDS in needs and connections[events.db].vendor == "postgresql":
        counted: Iterable[Sequence[object]] = _read_shared(rows, columns)
    else:
        counted = _read(rows.values(*columns).annotate(count=Count("id"), last=Max("id")), names)
    for values in counted:
        row = dict(zip(names, values, strict=True))
        if signed:
            found = signatures.get(row["signature"], _UNKNOWN)
            row |= {name: getattr(found, name) for name in signed}
        if unit is not None:
            row[MOMENT] = unit.moment(row[MOMENT])
        if isinstance(row.get(FIELDS), str):
            row[FIELDS] = [row[FIELDS]]
        yield row


def _annotations(using: str, needs: Collection[str], unit: Unit | None) -> dict[str, object]:
    found: dict[str, object] = {} if unit is None else {MOMENT: unit.expression}
    if FIELDS in needs:
        found[FIELDS] = EachKey("changes") if connections[using].vendor == "postgresql" else Keys("changes")
    return found


def _read(rows: Any, names: Sequence[str]) -> Iterator[Sequence[Any]]:
    """Yield what the database counts.

    The statement of a cursor is planned by PostgreSQL as if its first rows were wanted soon, and run by one process.
    """
    using, rows = rows.db, rows.values_list(*names)
    if connections[using].vendor != "postgresql":
        rows = rows.iterator(chunk_size=CHUNK)
    with much_memory(using):
        yield from rows


def _read_shared(rows: Any, columns: Sequence[str]) -> list[tuple[object, ...]]:
    """Return what PostgreSQL counts of rows that one event has several of.

    It takes each of them for a group of its own, and has one process count what the others read, unless they come from
    a query of their own and handing them over is said to be dear.
    """
    sql, parameters = rows.values_list("id", *columns).query.get_compiler(rows.db).as_sql()
    named = ", ".join(map(connections[rows.db].ops.quote_name, columns))
    with much_memory(rows.db), connections[rows.db].cursor() as cursor:
        cursor.execute("SELECT set_config('parallel_tuple_cost', '2', true)")
        cursor.execute(f"SELECT {named}, COUNT(*), MAX(id) FROM ({sql}) each GROUP BY {named}", parameters)  # noqa: S608  # the statement of Django
        return list(cursor.fetchall())


def _count(events: AuditEventQuerySet, dimensions: Sequence[Dimension], top: int | None) -> Groups:
    """Return the groups: all of them, or at least the largest if ``top`` says how many."""
    # The database doesn't know that a model has had other names.
    has_had_others = bool(get_renames().labels) and any("model" in dimension.needs for dimension in dimensions)
    if all(dimension.is_plain for dimension in dimensions) and not _signed_of(dimensions) and not has_had_others:
        return _largest(events, dimensions, top)
    groups: Groups = {}
    for row in _rows(events, dimensions):
        for keys in product(*(dimension.keys(row) for dimension in dimensions)):
            size, last = groups.get(keys, _Group())
            groups[keys] = _Group(size + row["count"], max(last, row["last"]))
    return groups


def _captions(using: str, groups: Iterable[_Group], sources: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return what the newest event of each group calls its object and actor."""
    found: dict[int, dict[str, str]] = {}
    ids = (group.last for group in groups)
    while sources and (some := list(islice(ids, CHUNK))):
        events = AuditEvent.objects.using(using).filter(AnyOf(F("id"), some)).order_by()
        found.update((pk, dict(zip(sources, names, strict=True))) for pk, *names in events.values_list("id", *sources))
    return found


def _cells(dimensions: Sequence[Dimension], keys: tuple[Key, ...], captions: dict[str, str]) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for dimension, key in zip(dimensions, keys, strict=True):
        cells |= {column.name: cell for column, cell in zip(dimension.columns, key, strict=True)}
        if dimension.caption is not None:
            column, source = dimension.caption
            cells[column.name] = captions.get(source, "")
    return cells


def _columns(dimensions: Sequence[Dimension]) -> list[Column]:
    """Return the columns of all dimensions, one that two of them share only once."""
    columns: dict[str, Column] = {}
    for dimension in dimensions:
        captions = (dimension.caption[0],) if dimension.caption else ()
        columns |= {column.name: column for column in (*dimension.columns, *captions)}
    return [*columns.values(), COUNT]


def _ordered(groups: Groups, dimensions: Sequence[Dimension], top: int | None) -> Groups:
    """Return the largest groups first, or all in the order of time where a dimension is one."""
    ranked = sorted(groups.items(), key=lambda item: (-item[1][0], item[0]))[:top]
    if any(dimension.is_time for dimension in dimensions):
        ranked.sort(key=lambda item: item[0])
    return dict(ranked)


def activity(events: AuditEventQuerySet, by: Sequence[str], top: int | None = None, most: int | None = None) -> Report:
    """Return the report that counts the events by the named dimensions, by model and event if none is named.

    Args:
        events: The events.
        by: The names of the dimensions.
        top: How many groups there are at most, those with the most events; all if None.
        most: The same where ``top`` is None, but the report says if there are others. It never cuts days or hours.

    Raises:
        WrongArgument: One of the names is no dimension.

    """
    names = list(dict.fromkeys(by or DEFAULT_BY))
    dimensions = [_with_current_names(get_dimension(name)) for name in names]
    limit = top if most is None or any(dimension.is_time for dimension in dimensions) else top or most + 1
    groups = _ordered(_count(events, dimensions, limit), dimensions, limit)
    rest = ""
    if top is None and most is not None and limit == len(groups):
        groups = dict(islice(groups.items(), most))
        rest = _("There are more: these are the %(count)s with the most events.") % {"count": number_format(most)}
    columns = _columns(dimensions)
    sources = [dimension.caption[1] for dimension in dimensions if dimension.caption]
    captions = _captions(events.db, groups.values(), sources)
    rows = []
    for keys, group in groups.items():
        cells = {**_cells(dimensions, keys, captions.get(group.last, {})), COUNT.name: group.size}
        rows.append([cells[column.name] for column in columns])
    title = _("Audit events by %(names)s") % {"names": ", ".join(names)}
    if top is not None:
        title = _("%(title)s (top %(count)d)") % {"title": title, "count": top}

    def series() -> list[Series]:
        named = enumerate(zip(names, dimensions, strict=True))
        return [_series(name, dimension, position, groups, captions) for position, (name, dimension) in named]

    return Report(
        title=title, columns=columns, rows=rows, empty=_("No events match."), rest=rest, series=LazySeries(series)
    )


def _series(
    name: str,
    dimension: Dimension,
    position: int,
    groups: Groups,
    captions: dict[int, dict[str, str]],
) -> Series:
    """Return how many events there are by one of the dimensions."""
    counts: dict[Key, int] = {}
    labels: dict[Key, str] = {}
    for keys, group in groups.items():
        key = keys[position]
        counts[key] = counts.get(key, 0) + group.size
        caption = captions.get(group.last, {}).get(dimension.caption[1], "") if dimension.caption else ""
        labels[key] = caption or _label(key) or _("none")
    shared = {label for label, count in Counter(labels.values()).items() if count > 1}
    labels = {key: f"{label} ({_label(key)})" if label in shared else label for key, label in labels.items()}
    if dimension.is_time:
        in_order = [(labels.get(key) or _label(key), counts.get(key, 0)) for key in _without_gaps(sorted(counts))]
    else:
        ranked = sorted(counts, key=lambda key: (-counts[key], key))
        in_order = [(labels[key], counts[key]) for key in ranked]
    title = _("Audit events by %(names)s") % {"names": name}
    heading = str((dimension.caption[0] if dimension.caption else dimension.columns[-1]).heading)
    return Series(title=title, heading=heading, values=in_order, is_time=dimension.is_time)


def _label(key: Key) -> str:
    return " ".join(line for cell in key for line in cell_lines(cell))


def _without_gaps(keys: Sequence[Key]) -> Sequence[Key]:
    """Return the days or hours with those in between, unless that makes too many to draw."""
    if not keys:
        return keys
    (first,), (last,) = keys[0], keys[-1]
    if isinstance(first, dt.datetime) and isinstance(last, dt.datetime):
        hours = (last - first) // dt.timedelta(hours=1)
        every: list[Key] = [(local(first + dt.timedelta(hours=hour)),) for hour in range(min(hours, MOST_STEPS) + 1)]
    elif isinstance(first, dt.date) and isinstance(last, dt.date):
        days = (last - first).days
        every = [(first + dt.timedelta(days=day),) for day in range(min(days, MOST_STEPS) + 1)]
    else:
        return keys
    return keys if len(every) > MOST_STEPS else every
