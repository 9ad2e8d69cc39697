"""Who acts in a request: as the project says, as the view authenticated, as the session has it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.utils.functional import SimpleLazyObject

from django_signal_audit.context.propagation import pack, task_scope
from django_signal_audit.context.scopes import context_scope

from .app.models import Category
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db

HERE = "tests.test_actor_of_a_request"


@pytest.fixture
def anna() -> User:
    return User.objects.create_user("anna", password="x")


@pytest.fixture
def bert() -> User:
    return User.objects.create_user("bert", password="x")


def header(request: HttpRequest) -> Any:
    return User.objects.filter(username=request.headers.get("X-User", "")).first()


def text(request: HttpRequest) -> Any:
    return "robot 7"


def failing(request: HttpRequest) -> Any:
    msg = "the directory is away"
    raise LookupError(msg)


def broken_query(request: HttpRequest) -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM there_is_no_such_table")


def saving(request: HttpRequest) -> Any:
    Category.objects.create(name="seen")
    return User.objects.get(username="anna")


class Broken:
    @property
    def pk(self) -> Any:
        raise LookupError


def broken_user(request: HttpRequest) -> Any:
    return Broken()


async def awaited(request: HttpRequest) -> Any:
    return "nobody"


NOT_CALLABLE = "text"


def save(**attributes: Any) -> None:
    request = RequestFactory().get("/")
    vars(request).update(attributes)
    with context_scope(request=request):
        Category.objects.create(name="a")


def test_the_project_is_asked_before_the_session(audit: Audit, client: Client, anna: User, bert: User) -> None:
    audit(ACTOR=f"{HERE}.header")
    client.force_login(anna)
    client.get("/create/a/", headers={"X-User": "bert"})
    assert (last().actor_id, last().actor_repr) == (str(bert.pk), "bert")


def test_the_session_counts_where_the_project_does_not_know(audit: Audit, client: Client, anna: User) -> None:
    audit(ACTOR=f"{HERE}.header")
    client.force_login(anna)
    client.get("/create/a/")
    assert last().actor_repr == "anna"


def test_the_project_may_answer_with_a_text(audit: Audit, client: Client) -> None:
    audit(ACTOR=f"{HERE}.text")
    client.get("/create/a/")
    assert (last().actor_id, last().actor_repr) == ("robot 7", "robot 7")


@pytest.mark.parametrize("name", ["failing", "broken_query", "broken_user", "NOT_CALLABLE", "missing"])
def test_a_fault_is_logged_and_the_session_counts(
    audit: Audit, client: Client, anna: User, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.force_login(anna)
    audit(ACTOR=f"{HERE}.{name}")
    assert client.get("/create/a/").status_code == 200
    assert last().actor_repr == "anna"
    assert 'SIGNAL_AUDIT["ACTOR"] failed for /create/a/' in caplog.text


def test_asking_may_save_what_is_audited(audit: Audit, client: Client, anna: User) -> None:
    audit(ACTOR=f"{HERE}.saving")
    client.get("/create/a/")
    assert [(event.object_repr, event.actor_repr) for event in events()] == [("seen", ""), ("a", "anna")]


def test_commands_do_not_ask(audit: Audit) -> None:
    audit(ACTOR=f"{HERE}.failing")
    Category.objects.create(name="a")
    assert last().actor_repr == ""


@pytest.mark.parametrize(
    ("dotted", "words"),
    [
        (f"{HERE}.haeder", f"Did you mean '{HERE}.header'?"),
        (f"{HERE}.NOT_CALLABLE", "isn't a function"),
        (f"{HERE}.awaited", "is an async function, and nothing awaits its answer"),
        ("no.such.module", "cannot import 'no.such.module'"),
    ],
)
def test_check_reports_a_function_that_cannot_be_used(audit: Audit, dotted: str, words: str) -> None:
    audit(ACTOR=dotted)
    [problem] = [item for item in run_checks(tags=[Tags.signals]) if item.id == "django_signal_audit.E065"]
    assert 'SIGNAL_AUDIT["ACTOR"]' in problem.msg
    assert words in f"{problem.msg} {problem.hint}"


@pytest.mark.parametrize("wrong", [7, None, ["tests"]])
def test_check_reports_a_value_that_is_no_path(audit: Audit, wrong: Any) -> None:
    audit(ACTOR=wrong)
    assert [item.id for item in run_checks(tags=[Tags.signals]) if "ACTOR" in item.msg] == ["django_signal_audit.E003"]


def test_a_function_that_can_be_used_is_no_problem(audit: Audit) -> None:
    audit(ACTOR=f"{HERE}.header")
    assert not [item for item in run_checks(tags=[Tags.signals]) if "ACTOR" in item.msg]


def test_a_user_in_the_authentication_of_the_view_counts(audit: Audit, anna: User, bert: User) -> None:
    audit()
    save(user=SimpleLazyObject(lambda: anna), auth=bert)
    assert last().actor_repr == "bert"
    save(user=AnonymousUser(), auth=SimpleNamespace(user=bert))
    assert last().actor_repr == "bert"
    # REST framework sets both, and its user is the one that counts.
    save(user=anna, auth=SimpleNamespace(user=bert))
    assert last().actor_repr == "anna"


@pytest.mark.parametrize("auth", ["hunter2", b"hunter2", {"token": "hunter2"}, None, 7, SimpleNamespace(pk="hunter2")])
def test_a_token_that_leads_to_nobody_is_not_shown(audit: Audit, anna: User, auth: Any) -> None:
    audit()
    save(auth=auth)
    assert (last().actor_id, last().actor_repr, last().context["request"]["path"]) == ("", "", "/")
    assert "hunter2" not in str(vars(last()))
    save(user=anna, auth=auth)
    assert last().actor_repr == "anna"


def test_the_user_in_the_scope_counts_where_the_request_has_none(audit: Audit, anna: User, bert: User) -> None:
    audit()
    save(scope={"user": bert})
    assert last().actor_repr == "bert"
    save(scope={"user": bert}, user=AnonymousUser())
    assert last().actor_repr == "bert"
    save(scope={"user": bert}, user=anna)
    assert last().actor_repr == "anna"


def test_an_impersonator_that_middleware_names_is_in_the_context(audit: Audit, anna: User, bert: User) -> None:
    audit()
    save(user=bert, impersonator=anna)
    assert last().actor_repr == "bert"
    assert last().context["impersonator"] == {"id": str(anna.pk), "repr": "anna"}
    save(user=bert, impersonator=None)
    assert "impersonator" not in last().context


def test_a_task_names_the_impersonator_too(audit: Audit, anna: User, bert: User) -> None:
    audit()
    request = RequestFactory().get("/")
    request.user, request.impersonator = bert, anna  # type: ignore[attr-defined]
    with context_scope(request=request):
        packed = pack()
    with task_scope("shop.tasks.reprice", packed):
        Category.objects.create(name="a")
    assert (last().actor_repr, last().context["impersonator"]["repr"]) == ("bert", "anna")


def test_pages_and_history_name_the_impersonator(
    audit: Audit, client: Client, anna: User, bert: User, capsys: pytest.CaptureFixture[str]
) -> None:
    audit()
    save(user=bert, impersonator=anna)
    event = last()
    client.force_login(User.objects.create_superuser("root"))
    page = client.get(f"/admin/django_signal_audit/auditevent/{event.pk}/change/").content.decode()
    assert "Impersonated by" in page
    assert f"actor={anna.pk}" in page
    assert "bert (impersonated by anna)" in client.get("/admin/django_signal_audit/auditevent/").content.decode()
    call_command("audit_history", event.model, event.object_id)
    call_command("audit_export", "--format", "jsonl")
    printed = capsys.readouterr().out
    assert "bert (impersonated by anna)" in printed
    assert f'"impersonator": {{"id": "{anna.pk}", "repr": "anna"}}' in printed
