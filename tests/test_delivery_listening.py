"""A worker hears of what commits, and what a request pays for telling him."""

from __future__ import annotations

import threading
import time

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_signal_audit import record
from django_signal_audit.delivery.listener import Listener
from django_signal_audit.models import Notification
from tests.app.models import Product

from .notices import audit_settings

WORKER = "django_signal_audit.dispatchers.WorkerDispatcher"


@pytest.fixture
def notify(settings):
    def apply(*entries):
        rule = {"name": "products", "model": "app.product", "notify": entries}
        settings.SIGNAL_AUDIT = {**audit_settings(), "RULES": [rule], "DISPATCHER": WORKER}
        Product.objects.create(name="the first one asks which tables there are")

    return apply


def hears(listener):
    """Return whether something was said; what was said before is heard at once."""
    start = time.monotonic()
    listener.wait(0.3, threading.Event())
    return time.monotonic() - start < 0.3


@pytest.mark.django_db(transaction=True)
class TestListener:
    @pytest.fixture(autouse=True)
    def rules(self, settings):
        if connection.vendor != "postgresql":
            pytest.skip("only PostgreSQL tells of commits")
        if connection.Database.__name__ != "psycopg":
            pytest.skip("workers listen with psycopg 3 only: psycopg 2 does not say what there is to read")
        settings.SIGNAL_AUDIT = {**audit_settings(notify=["take"]), "DISPATCHER": WORKER}

    def test_it_hears_of_a_commit(self):
        with Listener("default") as listener:
            assert not hears(listener)
            record("thing_happened")
            assert hears(listener)
            assert not hears(listener)

    def test_it_does_not_hear_of_a_rollback(self):
        with Listener("default") as listener:
            with transaction.atomic():
                record("thing_happened")
                transaction.set_rollback(True)
            assert not hears(listener)

    def test_a_connection_that_ended_is_made_anew(self, caplog):
        with Listener("default") as listener:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
                )
            assert hears(listener)  # so that the worker looks at once
            assert "ended the connection" in caplog.text
            assert not hears(listener)
            record("thing_happened")
            assert hears(listener)


@pytest.mark.django_db
def test_elsewhere_it_sleeps_until_it_is_to_stop():
    stop = threading.Event()
    stop.set()
    with Listener("default") as listener:
        listener.wait(60, stop)


def count_queries(act):
    with CaptureQueriesContext(connection) as queries:
        act()
    return [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]


@pytest.mark.django_db
class TestCosts:
    def test_a_notification_is_one_insert_more(self, notify):
        notify()
        silent = count_queries(lambda: Product.objects.create(name="oak"))
        notify("take")
        told = count_queries(lambda: Product.objects.create(name="elm"))
        more = [sql for sql in told if "django_signal_audit_notification" in sql]
        is_told = connection.features.can_return_rows_from_bulk_insert  # MySQL is asked for the keys
        assert [sql.split()[0] for sql in more] == ["INSERT"] if is_told else ["INSERT", "SELECT"]
        assert len(told) == len(silent) + len(more)

    def test_many_recipients_cost_as_much_as_one(self, notify):
        User.objects.bulk_create(User(username=f"u{number}", is_superuser=True) for number in range(300))
        notify({"channel": "take", "to": "superusers"})
        told = count_queries(lambda: Product.objects.create(name="elm"))
        assert Notification.objects.count() == 2
        notify({"channel": "take", "to": "u1"})
        assert len(count_queries(lambda: Product.objects.create(name="ash"))) == len(told)
