"""Loading what the settings name by a dotted path: channels, formats, conditions, signals, functions."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import Any, TypeVar

from django.utils.module_loading import import_string

from .exceptions import InvalidSettings
from .problems import Problem, nearest_path

T = TypeVar("T")


class PluginError(InvalidSettings):
    """A dotted path leads nowhere, or to something else than what is needed there."""

    def __init__(self, path: str, what: str, hint: str) -> None:
        super().__init__(f"{path} {what}", hint)
        self.path, self.what = path, what

    def as_problem(self, code: str) -> Problem:
        """Return the error as ``check`` reports it."""
        return Problem(code, self.path, self.what, self.hint)


def load(
    dotted: str,
    path: str,
    expected: str,
    accepts: Callable[[Any], bool] = callable,
    *,
    built_in: Iterable[str] = (),
    hint: str = "",
) -> Any:
    """Return what a dotted path leads to.

    Args:
        dotted: The dotted path.
        path: Where it stands in the settings: ``SIGNAL_AUDIT["DISPATCHER"]``.
        expected: What it has to lead to, with an article.
        accepts: Returns whether it does.
        built_in: The paths of this package that may be meant.
        hint: What to do if it leads to something else; the nearest path by default.

    Raises:
        PluginError: It can't be imported, or it leads to something else.

    """
    try:
        found = import_string(dotted)
    except ImportError as error:
        raise PluginError(
            path, f"cannot import {dotted!r}: {error}.", nearest_path(dotted, accepts, built_in)
        ) from error
    except Exception as error:  # importing runs the project's code
        raise PluginError(
            path, f"cannot import {dotted!r}: it raised {error!r}.", "Fix the module or the path."
        ) from error
    if not accepts(found):
        advice = hint or nearest_path(dotted, accepts, built_in)
        raise PluginError(path, f"names {dotted!r}, which isn't {expected}.", advice)
    return found


def is_sync(found: object) -> bool:
    """Return whether something can be called, and gives its answer at once."""
    return callable(found) and not _is(inspect.iscoroutinefunction, found)


def _is(kind: Callable[[object], bool], found: object) -> bool:
    """Return whether a function, or an object that can be called like one, is of a kind."""
    return kind(found) or (callable(found) and kind(type(found).__call__))


def call_mistake(found: object, arguments: Iterable[str], *, may_await: bool = False, may_yield: bool = False) -> str:
    """Return why something gives no answer to a call, as in "names X, which …"; ``""`` if it most likely does.

    Args:
        found: What is called.
        arguments: The names of the arguments, which it gets by position.
        may_await: Is the answer of an ``async`` function awaited?
        may_yield: Is the answer gone through, so that a generator is one too?

    """
    arguments = tuple(arguments)
    if not callable(found):
        return "isn't a function"
    if _is(inspect.isasyncgenfunction, found):
        return "is an async generator function: a call runs nothing of it"
    if _is(inspect.iscoroutinefunction, found) and not may_await:
        return "is an async function, and nothing awaits its answer"
    if _is(inspect.isgeneratorfunction, found) and not may_yield:
        return "is a generator function: a call runs nothing of it"
    return "" if _takes(found, len(arguments)) else f"can't be called with ({', '.join(arguments)})"


def _takes(found: Callable[..., object], count: int) -> bool:
    """Return whether something can be called with so many arguments. Those of a wrapper count, not of what it wraps."""
    try:
        inspect.signature(found, follow_wrapped=False).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True  # a function in C does not tell its arguments
    return True


def _never_answers(found: object) -> bool:
    """Return whether a function returns None wherever it ends: most likely its ``return`` was forgotten."""
    code = getattr(found, "__code__", None)
    if not isinstance(code, CodeType) or code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE):
        return False
    ends, before = [], None
    for step in dis.get_instructions(code):
        if step.opname == "RETURN_CONST":  # of Python 3.12 and 3.13
            ends.append(step.argval is None)
        elif step.opname == "RETURN_VALUE":
            is_none = before is not None and before.opname == "LOAD_CONST" and before.argval is None
            ends.append(is_none and not step.is_jump_target)  # else another value may come from elsewhere
        before = step
    return bool(ends) and all(ends)


def function_problems(
    code: str,
    dotted: str,
    path: str,
    arguments: Iterable[str],
    *,
    hint: str,
    must_answer: bool = True,
    **allowed: bool,
) -> Iterator[Problem]:
    """Yield what is wrong with the dotted path of a function that gets these arguments; see ``call_mistake``."""
    try:
        found = load(dotted, path, "a function", hint=hint)
        mistake = call_mistake(found, arguments, **allowed)
    except PluginError as error:
        yield error.as_problem(code)
    else:
        if not mistake and must_answer and _never_answers(found):
            mistake = "never returns a value"
        if mistake:
            yield Problem(code, path, f"names {dotted!r}, which {mistake}.", hint)


def load_class(dotted: str, path: str, base: type[T], *, built_in: Iterable[str] = ()) -> type[T]:
    """Return the class that a dotted path leads to, which is to be a subclass of ``base``; see ``load``."""

    def accepts(found: object) -> bool:
        return isinstance(found, type) and issubclass(found, base)

    expected = f"a subclass of {base.__module__}.{base.__name__}"
    return load(dotted, path, expected, accepts, built_in=built_in)  # type: ignore[no-any-return]


def problem_of(code: str, dotted: str, path: str, expected: str, *args: Any, **options: Any) -> Iterable[Problem]:
    """Yield what is wrong with a dotted path, nothing if it can be loaded; see ``load``."""
    try:
        load(dotted, path, expected, *args, **options)
    except PluginError as error:
        yield error.as_problem(code)
