"""Compilers of other packages that never call Django's ``execute_sql``: the hook cannot see their statements."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models.sql import DeleteQuery, InsertQuery, UpdateQuery
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler

from django_signal_audit.models import AuditEvent
from django_signal_audit.problems import Problem

_COMPILERS = (SQLInsertCompiler, SQLUpdateCompiler, SQLDeleteCompiler)
_QUERIES = (InsertQuery, UpdateQuery, DeleteQuery)
_EXECUTES = ("execute_sql", "execute_returning_sql")


def unseen_problems() -> list[Problem]:
    """Name the compilers whose writes are not recorded."""
    hint = (
        "Have its execute_sql call super().execute_sql, or record what it writes with django_signal_audit.record(), "
        "or leave the models it writes out of the rules."
    )
    message = "runs statements past Django's execute_sql: what it writes is not recorded."
    names = dict.fromkeys(f"{found.__module__}.{found.__qualname__}" for found in (*_deaf(), *_strange()))
    return [Problem("W045", name, message, hint) for name in names]


def _deaf() -> Iterator[type]:
    """Return the subclasses of Django's compilers with an ``execute_sql`` that does not call theirs."""
    for base in _COMPILERS:
        for compiler in _subclasses(base):
            own = [vars(compiler).get(name) for name in _EXECUTES]
            if any(callable(method) and not _calls_on(method) for method in own):
                yield compiler


def _strange() -> Iterator[type]:
    """Return the compilers that queries make of themselves and that are none of Django's."""
    for base in _QUERIES:
        for query in _subclasses(base):
            if "get_compiler" not in vars(query) and "compiler" not in vars(query):
                continue
            try:
                compiler = query(AuditEvent).get_compiler(using=DEFAULT_DB_ALIAS)
            except Exception:  # noqa: BLE001, S112  # it wants to be made in a way of its own
                continue
            if not isinstance(compiler, _COMPILERS):
                yield type(compiler)


def _subclasses(base: type) -> Iterator[type]:
    own: list[type] = base.__subclasses__()
    for found in own:
        yield found
        yield from _subclasses(found)


def _calls_on(method: Any) -> bool:
    """Return whether a method, or a function that it wraps, names ``execute_sql`` to call it."""
    code = getattr(method, "__code__", None)
    if hasattr(method, "__wrapped__") or code is None:
        return True  # nobody can tell
    names = set(_names(code))
    known = [method.__globals__[name] for name in names & set(method.__globals__)]
    known += [cell.cell_contents for cell in method.__closure__ or () if _is_full(cell)]
    originals = [found for found in known if inspect.isfunction(found)]
    return not names.isdisjoint(_EXECUTES) or any(found.__name__ in _EXECUTES for found in originals)


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
