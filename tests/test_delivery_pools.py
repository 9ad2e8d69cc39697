"""A pool of connections that has too few of them for a worker's threads is told of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command

from django_signal_audit.checks import check_installation
from django_signal_audit.delivery import connection_pools
from django_signal_audit.delivery.connection_pools import pool_problem
from django_signal_audit.management.commands import audit_deliver

from .notices import audit_settings

PATH = 'DATABASES["default"]["OPTIONS"]["pool"]'


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Any:
    settings.SIGNAL_AUDIT = audit_settings()

    def use(pool: object, vendor: str = "postgresql") -> None:
        options = {} if pool is None else {"pool": pool}
        connection = SimpleNamespace(vendor=vendor, settings_dict={"OPTIONS": options})
        monkeypatch.setattr(connection_pools, "connections", {"default": connection})

    return use


def found() -> list[Any]:
    return [problem for problem in check_installation() if problem.id == "django_signal_audit.W094"]


@pytest.mark.parametrize(
    ("pool", "size"), [(True, 4), ({}, None), ({"min_size": 2}, 2), ({"max_size": 6}, 6), ({"timeout": 5}, 4)]
)
def test_one_that_is_too_small_is_a_warning(use: Any, pool: object, size: int | None) -> None:
    use(pool)
    messages = [problem.msg for problem in found()]
    if size is None:  # Django takes an empty dict for none
        assert messages == []
        return
    (message,) = messages
    assert message.startswith(f"{PATH} has at most {size} connections, and audit_deliver with --concurrency 4 needs 7:")


@pytest.mark.parametrize("pool", [{"max_size": 7}, {"min_size": 10}, {"max_size": None, "min_size": 8}, None, False])
def test_one_that_is_large_enough_and_none_are_fine(use: Any, pool: object) -> None:
    use(pool)
    assert found() == []


def test_what_is_no_number_is_left_to_the_pool(use: Any) -> None:
    use({"max_size": "6"})
    assert found() == []


def test_where_nothing_notifies_or_a_queue_has_the_threads_it_does_not_matter(use: Any, settings: Any) -> None:
    use(True)
    assert len(found()) == 1
    queue = "django_signal_audit.dispatchers.TasksDispatcher"
    silent = {"RULES": [{"name": "products", "model": "app.Product"}]}
    for audit in ({**audit_settings(), "DISPATCHER": queue}, silent):
        settings.SIGNAL_AUDIT = audit
        assert found() == []


def test_the_hint_says_how_many_it_takes_and_what_would_do(use: Any) -> None:
    use({"max_size": 5})
    assert found()[0].hint == 'Write "pool": {"max_size": 7}, or more, or run audit_deliver with --concurrency 2.'
    use({"max_size": 1, "min_size": 1})
    problem = pool_problem("default", 1)
    assert problem is not None
    assert problem.message.startswith("has at most 1 connection, and")
    assert problem.hint == 'Write "pool": {"max_size": 4}, or more.'


@pytest.mark.django_db
def test_a_worker_says_it_of_the_number_that_it_was_given(
    use: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test's own connection is not one that threads share.
    monkeypatch.setattr(audit_deliver, "can_share", lambda using: True)
    use(True)
    command = audit_deliver.Command()
    options: dict[str, Any] = {"concurrency": 2, "limit": None, "channel": [], "exclude_channel": []}
    for concurrency, count in ((4, 0), (1, 0), (2, 1)):
        turns = command._turns("default", {**options, "concurrency": concurrency})
        assert turns.threads == concurrency
        said = capsys.readouterr().err
        assert said.count("--concurrency 2 needs 5") == count
        assert bool(said) == bool(count)


@pytest.mark.django_db
def test_other_databases_have_no_such_pool(use: Any, capsys: pytest.CaptureFixture[str]) -> None:
    use(True, vendor="sqlite")
    assert found() == []
    call_command("audit_deliver", "--concurrency", "9", skip_checks=True)
    assert "needs" not in capsys.readouterr().err
