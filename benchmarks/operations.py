"""The operations that are timed: each is a preparation, which is not, and a call, which is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.db.models import F, Model

from .shop.models import Article, Product
from .stock import TAGS, clear, fill, values

BULK = 5_000
LOADED = 20_000


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of work: ``prepare`` makes the subjects of that many calls of ``run``, of one if it is on many rows."""

    prepare: Callable[[int], Iterable[Any]]
    run: Callable[[Any], object]
    is_bulk: bool = False
    # Does it write what the contenders watch?
    is_audited: bool = True


def _rows(model: type[Model], number: int) -> Sequence[Any]:
    fill(model, number)
    return list(model.objects.order_by("pk"))


def _create(model: type[Model]) -> Operation:
    def prepare(number: int) -> Iterable[Any]:
        clear(model)
        return [values(index) for index in range(number)]

    return Operation(prepare, lambda subject: model.objects.create(**subject))


def _get_and_save(model: type[Model]) -> Operation:
    def run(pk: Any) -> None:
        row = model.objects.get(pk=pk)
        row.price += 1
        row.stock += 1
        row.save()

    return Operation(lambda number: [row.pk for row in _rows(model, number)], run)


def _save_fields(model: type[Model]) -> Operation:
    def run(row: Any) -> None:
        row.price += 1
        row.save(update_fields=["price"])

    return Operation(lambda number: _rows(model, number), run)


def _save_unchanged(model: type[Model]) -> Operation:
    return Operation(lambda number: _rows(model, number), lambda row: row.save())


def _delete(model: type[Model]) -> Operation:
    return Operation(lambda number: _rows(model, number), lambda row: row.delete())


def _add_members(model: type[Model]) -> Operation:
    def prepare(number: int) -> Iterable[Any]:
        for index, row in enumerate(_rows(model, number)):
            yield row, [1 + (index + step) % TAGS for step in range(5)]

    return Operation(lambda number: list(prepare(number)), lambda subject: subject[0].tags.add(*subject[1]))


def _bulk_create(model: type[Model]) -> Operation:
    def prepare(_number: int) -> Iterable[Any]:
        clear(model)
        return [[model(**values(index)) for index in range(BULK)]]

    return Operation(prepare, lambda rows: model.objects.bulk_create(rows), is_bulk=True)


def changed_rows(model: type[Model]) -> Sequence[Any]:
    """Return loaded rows with two fields changed and not saved."""
    rows = _rows(model, BULK)
    for row in rows:
        row.price = Decimal("7.5000")
        row.stock += 1
    return rows


def _bulk_update(model: type[Model]) -> Operation:
    return Operation(
        lambda _number: [changed_rows(model)],
        lambda rows: model.objects.bulk_update(rows, ["price", "stock"], batch_size=500),
        is_bulk=True,
    )


def _query(model: type[Model]) -> Iterable[Any]:
    fill(model, BULK)
    return [model.objects.all()]


def _query_update(model: type[Model]) -> Operation:
    return Operation(lambda _number: _query(model), lambda query: query.update(price=F("price") + 1), is_bulk=True)


def _query_delete(model: type[Model]) -> Operation:
    return Operation(lambda _number: _query(model), lambda query: query.delete(), is_bulk=True)


def _load(model: type[Model]) -> Operation:
    def prepare(_number: int) -> Iterable[Any]:
        fill(model, LOADED)
        return [model.objects.all()]

    return Operation(prepare, list, is_bulk=True)


WRITES = {
    "create": _create,
    "get_save": _get_and_save,
    "save_fields": _save_fields,
    "save_unchanged": _save_unchanged,
    "delete": _delete,
    "m2m_add": _add_members,
    "bulk_create": _bulk_create,
    "bulk_update": _bulk_update,
    "query_update": _query_update,
    "query_delete": _query_delete,
}
OPERATIONS: dict[str, Operation] = {
    **{name: make(Product) for name, make in WRITES.items()},
    "load": replace(_load(Product), is_audited=False),
    **{f"unaudited_{name}": replace(make(Article), is_audited=False) for name, make in WRITES.items()},
}
