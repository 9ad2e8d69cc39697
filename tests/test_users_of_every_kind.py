"""Users that are lazy, gone, of classes of their own or broken: whoever logs in or out does so, and it is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model, logout
from django.contrib.auth.models import AnonymousUser, User, update_last_login
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import DatabaseError, connection, transaction
from django.test import Client, RequestFactory
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from django_signal_audit import audit_context, record
from django_signal_audit.context.scopes import context_scope

from .app.models import Tag
from .app.signals import viewed
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db
ACCOUNTS = {"name": "accounts", "events": ["login", "logout", "login_failed", "thing_happened"]}
VIEWED = {"name": "viewed", "signal": "tests.app.signals.viewed", "event": "viewed"}


@pytest.fixture(params=["raise", "log"])
def on_error(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def rules(audit: Audit, on_error: str) -> None:
    audit(ACCOUNTS, VIEWED, {"name": "tags", "model": "app.Tag"}, ON_ERROR=on_error)


@pytest.fixture(autouse=True)
def no_last_login() -> Iterator[None]:
    """Django itself wants a row of the user model to note the login in."""
    user_logged_in.disconnect(dispatch_uid="update_last_login")
    yield
    user_logged_in.connect(update_last_login, dispatch_uid="update_last_login")


@pytest.fixture
def anna() -> User:
    return User.objects.create_superuser("anna", password="secret")


class Nameless(User):
    """A user whose text cannot be told."""

    class Meta:
        proxy = True
        app_label = "app"

    def __str__(self) -> str:
        raise ValueError("nobody knows")


class TokenUser:
    """A user without a row, as those of tokens are."""

    def __init__(self, pk: Any) -> None:
        self.pk = pk
        self.is_authenticated = True

    def __str__(self) -> str:
        return "by token"


class Broken:
    """Raises whatever it is asked for."""

    @property
    def pk(self) -> Any:
        raise DatabaseError

    def __str__(self) -> str:
        raise DatabaseError


def lazy(user: Any) -> Any:
    return SimpleLazyObject(lambda: user)


def never() -> Any:
    raise DatabaseError("no such session")


def bad_query() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")


def test_a_real_logout(anna: User) -> None:
    client = Client()
    assert client.login(username="anna", password="secret")
    client.cookies  # noqa: B018
    assert client.get("/admin/").status_code == 200
    response = client.post("/admin/logout/")
    assert response.status_code == 200
    assert client.get("/admin/").status_code == 302
    event = last()
    assert (event.event_type, event.model, event.object_id) == ("logout", "auth.user", str(anna.pk))
    assert (event.actor_id, event.actor_repr, event.object_repr) == (str(anna.pk), "anna", "anna")
    assert event.context["request"]["path"] == "/admin/logout/"


def test_a_real_logout_of_nobody() -> None:
    client = Client()
    client.post("/admin/logout/")
    assert [(event.event_type, event.actor_id) for event in events()] in ([], [("logout", "")])
    request = RequestFactory().get("/")
    request.session = client.session
    request.user = lazy(AnonymousUser())
    logout(request)
    assert last().event_type == "logout"
    assert (last().object_id, last().actor_id) == ("", "")


KINDS: dict[str, tuple[Any, tuple[str, str, str]]] = {
    "nobody": (lambda _: None, ("", "", "")),
    "anonymous": (lambda _: AnonymousUser(), ("", "", "")),
    "a row": (lambda user: user, ("auth.user", "{pk}", "anna")),
    "nameless": (
        lambda user: Nameless.objects.get(pk=user.pk),
        ("auth.user", "{pk}", "<Nameless: __str__ raised ValueError>"),
    ),
    "unsaved": (lambda _: User(username="new"), ("", "", "")),
    "deleted": (lambda user: user.delete() and user, ("", "", "")),
    "without a row": (lambda _: TokenUser(7), ("", "7", "by token")),
    "without a row and with a key that is text": (lambda _: TokenUser("ab"), ("", "ab", "by token")),
    "a text": (lambda _: "cron", ("", "cron", "cron")),
    "broken": (lambda _: Broken(), ("", "", "")),
}


@pytest.mark.parametrize(
    "wrap", [lambda user: user, lazy, lambda user: lazy(lazy(user))], ids=["plain", "lazy", "twice"]
)
@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def user(self, kind: str, anna: User, wrap: Any) -> tuple[Any, tuple[str, str, str]]:
        make, (model, pk, text) = KINDS[kind]
        return wrap(make(anna)), (model, pk.format(pk=anna.pk), text)

    @pytest.mark.parametrize(("signal", "name"), [(user_logged_in, "login"), (user_logged_out, "logout")])
    def test_logs_in_and_out(self, anna: User, kind: str, wrap: Any, signal: Any, name: str) -> None:
        user, (model, pk, text) = self.user(kind, anna, wrap)
        signal.send(get_user_model(), request=None, user=user)
        event = last()
        assert (event.event_type, event.model) == (name, model)
        if kind != "a text":  # which is no user
            assert (event.object_id, event.actor_id, event.actor_repr) == (pk if model else "", pk, text)

    def test_a_user_of_any_kind_is_named_as_actor(self, anna: User, kind: str, wrap: Any) -> None:
        user, (_, pk, text) = self.user(kind, anna, wrap)
        record("thing_happened", actor=user)
        assert (last().actor_id, last().actor_repr) == (pk, text)
        with audit_context(actor=user):
            Tag.objects.create(name="a")
        assert (last().actor_id, last().actor_repr) == (pk, text)
        viewed.send(None, user=user)
        assert (last().event_type, last().actor_id, last().actor_repr) == ("viewed", pk, text)
        request = RequestFactory().get("/")
        request.user = user
        with context_scope(request=request):
            Tag.objects.create(name="b")
        if kind not in ("broken", "a text"):
            assert (last().actor_id, last().actor_repr) == (pk, text)

    def test_is_what_an_event_is_about(self, anna: User, kind: str, wrap: Any) -> None:
        user, (model, pk, _) = self.user(kind, anna, wrap)
        if kind not in ("without a row", "without a row and with a key that is text", "a text", "broken"):
            record("thing_happened", user)
            assert (last().model, last().object_id) in ((model, pk), ("auth.user", ""))
            viewed.send(None, instance=user)
            assert last().event_type == "viewed"


@pytest.mark.parametrize("load", [never, bad_query])
def test_lazy_users_that_cannot_be_loaded(anna: User, load: Any) -> None:
    def broken() -> Any:
        return SimpleLazyObject(load)

    def lazy_of_nothing() -> Any:
        return SimpleLazyObject(never)

    with transaction.atomic():
        user_logged_in.send(User, request=None, user=broken())
        user_logged_out.send(User, request=None, user=broken())
        record("thing_happened", actor=broken())
        record("thing_happened", obj=broken())
        with audit_context(actor=broken()):
            Tag.objects.create(name="a")
        viewed.send(None, user=broken(), instance=broken())
        request = RequestFactory().get("/")
        request.user = broken()
        request.session = {"_auth_user_id": str(anna.pk)}  # type: ignore[assignment]
        with context_scope(request=request):
            user_login_failed.send("tests", credentials={"username": lazy_of_nothing()}, request=request)
    assert [event.actor_id for event in events()][:-1] == [""] * 6
    assert [event.event_type for event in events()] == [
        *("login", "logout", "thing_happened", "thing_happened", "create", "viewed", "login_failed")
    ]


def test_requests_whose_user_raises(anna: User) -> None:
    class Request(type(RequestFactory().get("/"))):  # type: ignore[misc]
        @property
        def user(self) -> Any:
            raise DatabaseError

    request = Request(RequestFactory().get("/").environ)
    for signal in (user_logged_in, user_logged_out):
        signal.send(User, request=request, user=lazy(anna))
        assert last().actor_id == str(anna.pk)
    user_login_failed.send("tests", credentials={"username": "x"}, request=request)
    assert last().event_type == "login_failed"


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"request": None},
        {"request": object()},
        {"request": {"type": "http"}, "credentials": None},
        {"request": SimpleNamespace(META={}), "credentials": "anna"},
    ],
)
def test_signals_that_other_packages_send(anna: User, sent: dict[str, Any]) -> None:
    user_logged_in.send(User, user=anna, **sent)
    user_logged_out.send(User, user=anna, **sent)
    user_login_failed.send("tests", **sent)
    assert [(event.event_type, event.object_id) for event in events()] == [
        ("login", str(anna.pk)),
        ("logout", str(anna.pk)),
        ("login_failed", ""),
    ]
    for signal in (user_logged_in, user_logged_out):
        signal.send(User, **sent)
        assert last().object_id == ""


def test_translated_texts_act(anna: User) -> None:
    record("thing_happened", actor=gettext_lazy("nightly job"))
    assert last().actor_repr == "nightly job"


def test_what_cannot_be_recorded_is_named_without_raising(
    anna: User, monkeypatch: pytest.MonkeyPatch, on_error: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError

    monkeypatch.setattr("django_signal_audit.recorder.match_change", fail)
    monkeypatch.setattr("django_signal_audit.recorder.row_name", fail)
    if on_error == "raise":
        with pytest.raises(Exception, match='The event "login" could not be recorded'):
            user_logged_in.send(User, request=None, user=anna)
    else:
        user_logged_in.send(User, request=None, user=anna)
        assert 'The event "login" could not be recorded' in caplog.text
