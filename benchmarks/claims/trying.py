"""What the claims are made of: verdicts, products to try them with, and what a call left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from .base import Package, Recorded

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim holds: yes, no, or partly, with what has to be known."""

    answer: str
    note: str = ""


YES, NO = Verdict("yes"), Verdict("no")

Claim = Callable[[Package], Verdict]


def holds(condition: object, note: str = "") -> Verdict:
    """Return yes, or no with the note."""
    return YES if condition else Verdict("no", note)


def partly(note: str) -> Verdict:
    """Return partly, with the note."""
    return Verdict("partly", note)


def unsaved_product(**values: Any) -> Any:
    """Return a product that isn't in the database, with a code of its own."""
    from .models import Product

    number = next(_numbers)
    return Product(**{"name": f"Product {number}", "code": f"code-{number}", "price": 10, **values})


def product(one: Package, **values: Any) -> Any:
    """Return a saved product."""
    made = unsaved_product(**values)
    with one.doing():
        made.save()
    return type(made).objects.get(pk=made.pk)


def tag() -> Any:
    """Return a saved tag, whose name no other has."""
    from .models import Tag

    return Tag.objects.create(name=f"Tag {next(_numbers)}")


def by_raw_sql(key: int, price: int) -> None:
    """Change a price behind the back of the ORM."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("UPDATE claims_product SET price = %s WHERE id = %s", [price, key])


@contextmanager
def recorded(one: Package, key: int) -> Iterator[list[Recorded]]:
    """Yield a list that has the records made inside the block once it has ended."""
    found: list[Recorded] = []
    before = len(list(one.records(key)))
    with one.doing():
        yield found
    found += list(one.records(key))[before:]


def has_price(records: list[Recorded], price: str = "9.00") -> bool:
    """Return whether a record has this new price."""
    return any(record.new.get("price") in (price, price.removesuffix(".00")) for record in records)


def has_deletion(records: list[Recorded]) -> bool:
    """Return whether a record is of a deletion."""
    return any(record.kind == "delete" for record in records)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Yield a list of the statements that are executed inside the block."""
    from django.db import connection

    found: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield found


def killed_at(number: int, run: Callable[[], object]) -> bool:
    """Run in a process that is killed before its statement of this number, and return whether it got that far."""
    from django.db import connection, connections

    connections.close_all()
    child = os.fork()
    if not child:
        numbers = count(1)

        def kill(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if next(numbers) == number:
                os._exit(9)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(kill):
            run()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
