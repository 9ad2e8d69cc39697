"""Functions and methods that the settings name: ``check`` says which of them can't be called, or give no answer."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from django_signal_audit.channels.base import Channel, Message
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.dispatchers.base import Dispatcher
from django_signal_audit.reports.exports.base import ExportFormat
from django_signal_audit.reports.formats.base import ReportFormat

from .notices import CALLABLE, EMAIL

HERE = "tests.test_functions_in_settings"
WHERE = {
    "ACTOR": ("E065", 1),
    "VISIBILITY": ("E060", 2),
    "when": ("E016", 1),
    "to": ("E027", 1),
    "target": ("E015", 1),
}


def settings_of(place: str, dotted: str) -> dict[str, Any]:
    if place in ("ACTOR", "VISIBILITY"):
        return {place: dotted}
    if place == "when":
        return {"RULES": [{"name": "a", "model": "app.Product", "when": dotted}]}
    if place == "to":
        notify = [{"channel": "mail", "to": dotted}]
        return {
            "RULES": [{"name": "a", "model": "app.Product", "notify": notify}],
            "CHANNELS": {"mail": {"BACKEND": EMAIL}},
        }
    return {"CHANNELS": {"call": {"BACKEND": CALLABLE, "OPTIONS": {"target": dotted}}}}


def reported(settings: Any, audit: dict[str, Any]) -> list[tuple[str, str, str]]:
    settings.SIGNAL_AUDIT = audit
    messages = [*check_rules(), *check_plugins()]
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in messages]


def no_argument() -> None:
    """Take nothing."""


def one(_first: object) -> object:
    """Take one argument."""
    return _first


def two(_first: object, _second: object) -> object:
    """Take two arguments."""
    return _second


def sometimes(first: object, second: object = None) -> object:
    """Answer, or not."""
    return first if second is None else None


def silent(_first: object) -> None:
    """Take one argument and forget to answer."""
    if _first:
        return
    str(_first)


def silent_to_two(_first: object, _second: object) -> None:
    """Take two arguments and forget to answer."""


def three(_first: object, _second: object, _third: object) -> None:
    """Take three arguments."""


def by_name(*, change: object, user: object = None) -> None:
    """Take no positional argument."""


def any_number(*args: object, **kwargs: object) -> object:
    """Take everything."""
    return args


def with_defaults(_first: object, _second: object = None, *, limit: int = 5) -> object:
    """Take one or two arguments."""
    return _first


def generator(*args: object) -> Iterator[str]:
    yield "ann"


async def coroutine(*args: object) -> None:
    """Do nothing, later."""


async def async_generator(*args: object) -> AsyncIterator[str]:
    yield "ann"


class Asked:
    def __call__(self, *args: object) -> bool:
        return True

    def method(self, *args: object) -> bool:
        return True


class AskedLater:
    async def __call__(self, *args: object) -> bool:
        return True


def adding_an_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args, "more")

    return inner


@adding_an_argument
def decorated(*args: object, _more: str = "") -> None:
    """Get one argument more from the decorator."""


@adding_an_argument
def decorated_with_three(_first: object, _second: object, _third: object = None) -> None:
    """Get one argument more from the decorator."""


object_that_is_called = Asked()
object_that_is_awaited = AskedLater()
bound = Asked().method
partly = functools.partial(three, 1, 2)
partly_two = functools.partial(three, 1)
partly_async = functools.partial(coroutine, 1)
in_a_thread = sync_to_async(one)
in_c = print

WRONG = [
    ("no_argument", "can't be called with ("),
    ("three", "can't be called with ("),
    ("by_name", "can't be called with ("),
    ("Asked", "can't be called with ("),
    ("async_generator", "is an async generator function: a call runs nothing of it"),
    ("coroutine", "is an async function, and nothing awaits its answer"),
    ("object_that_is_awaited", "is an async function, and nothing awaits its answer"),
    ("partly_async", "is an async function, and nothing awaits its answer"),
    ("in_a_thread", "is an async function, and nothing awaits its answer"),
    ("generator", "is a generator function: a call runs nothing of it"),
    ("HERE", "isn't a function"),
]
# A generator names recipients one by one, and the channel awaits its target.
ALLOWED = {
    "to": ("generator",),
    "target": ("coroutine", "object_that_is_awaited", "partly_async", "in_a_thread"),
}


@pytest.mark.parametrize("place", WHERE)
@pytest.mark.parametrize(("name", "mistake"), WRONG)
def test_a_function_that_gives_no_answer(settings: Any, place: str, name: str, mistake: str) -> None:
    found = reported(settings, settings_of(place, f"{HERE}.{name}"))
    if name in ALLOWED.get(place, ()):
        assert found == []
        return
    ((code, message, hint),) = found
    assert code == WHERE[place][0]
    assert f'["{place}"]' in message
    if name == "HERE" and place == "to":
        return  # a text may be many things there
    assert f"names '{HERE}.{name}', which {mistake}" in message
    assert hint.startswith("Name a function that takes")


@pytest.mark.parametrize("place", WHERE)
@pytest.mark.parametrize(
    "name", ["sometimes", "any_number", "object_that_is_called", "bound", "decorated", "decorated_with_three", "in_c"]
)
def test_a_function_that_can_be_called_is_no_problem(settings: Any, place: str, name: str) -> None:
    assert reported(settings, settings_of(place, f"{HERE}.{name}")) == []


@pytest.mark.parametrize(
    ("place", "name"), [("ACTOR", "silent"), ("VISIBILITY", "silent_to_two"), ("when", "silent"), ("target", "silent")]
)
def test_a_function_whose_return_was_forgotten(settings: Any, place: str, name: str) -> None:
    found = reported(settings, settings_of(place, f"{HERE}.{name}"))
    if place == "target":  # a channel that sends has nothing to answer
        assert found == []
        return
    ((code, message, _hint),) = found
    assert code == WHERE[place][0]
    assert "never returns a value" in message


@pytest.mark.parametrize("place", WHERE)
def test_the_number_of_arguments_counts(settings: Any, place: str) -> None:
    right = {1: {"one", "with_defaults", "partly"}, 2: {"two", "with_defaults", "partly_two"}}[WHERE[place][1]]
    names = {"one", "two", "with_defaults", "partly", "partly_two"}
    assert {name for name in names if not reported(settings, settings_of(place, f"{HERE}.{name}"))} == right


class AsyncChannel(Channel):
    async def send(self, message: Message) -> None:  # type: ignore[override]
        """Send nothing."""


class YieldingChannel(Channel):
    def send(self, message: Message) -> Iterator[None]:  # type: ignore[override]
        yield


class ForgetfulChannel(Channel):
    def send(self) -> None:  # type: ignore[override]
        """Take no message."""


class TalkativeChannel(Channel):
    def send(self, message: Message, *_: object, verbose: bool = False) -> None:
        """Send nothing."""


class AsyncDispatcher(Dispatcher):
    async def wake(self, using: str, ids: Any) -> None:  # type: ignore[override]
        """Wake nobody."""


class AsyncReport(ReportFormat):
    async def write(self, report: Any, stream: Any) -> None:  # type: ignore[override]
        """Write nothing."""


class OldExport(ExportFormat):
    def write(self, events: Any) -> None:  # type: ignore[override]
        """Take no stream."""


@pytest.mark.parametrize(
    ("audit", "code", "message"),
    [
        (
            {"CHANNELS": {"own": {"BACKEND": f"{HERE}.AsyncChannel"}}},
            "E015",
            "AsyncChannel, whose method send is an async",
        ),
        ({"CHANNELS": {"own": {"BACKEND": f"{HERE}.YieldingChannel"}}}, "E015", "whose method send is a generator"),
        (
            {"CHANNELS": {"own": {"BACKEND": f"{HERE}.ForgetfulChannel"}}},
            "E015",
            "whose method send can't be called with (self, message).",
        ),
        ({"DISPATCHER": f"{HERE}.AsyncDispatcher"}, "E022", "AsyncDispatcher, whose method wake is an async function"),
        ({"REPORT_FORMATS": {"x": f"{HERE}.AsyncReport"}}, "E023", "whose method write is an async function"),
        (
            {"EXPORT_FORMATS": {"x": f"{HERE}.OldExport"}},
            "E028",
            "whose method write can't be called with (self, events, stream).",
        ),
    ],
)
def test_a_plug_in_whose_method_does_nothing(settings: Any, audit: dict[str, Any], code: str, message: str) -> None:
    ((found_code, found, hint),) = reported(settings, audit)
    assert found_code == code
    assert message in found
    assert hint.startswith("Write def ")


def test_a_plug_in_may_take_more(settings: Any) -> None:
    assert reported(settings, {"CHANNELS": {"own": {"BACKEND": f"{HERE}.TalkativeChannel"}}}) == []
