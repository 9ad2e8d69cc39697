from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.models import F, Q
from django.db.models.functions import Concat

from .app.models import Category, Country, Picture, Place, Product, Restaurant, Tag
from .conftest import WAITING, Audit, events
from .processes.proof import prove
from .processes.stage import EVERYTHING, choose, databases, run
from .processes.work import is_locking, kind_of, upsert_options

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

LEVELS = {
    "postgresql": {"default": {}, "repeatable read": {"isolation_level": 3}, "serializable": {"isolation_level": 4}},
    # Django's own default is READ COMMITTED, the server's REPEATABLE READ.
    "mysql": {"default": {}, "the server's default": {"isolation_level": None}},
    "sqlite": {"default": {}},
}
# Writes to rows of one table, one statement each: plain ones on MariaDB wait for each other, and no more.
ORDERLY = ["save", "save_fields", "save_deferred", "save_expression", "update", "update_keys", "bulk_update"]

servers_only = pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer")
postgresql_only = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="a lock of PostgreSQL")


def elsewhere(work: Callable[[], Any]) -> Any:
    """Run something on another connection, to its end, and return what it returns or raises."""

    def close_after() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(close_after)
        return future.exception() or future.result()


@contextmanager
def meanwhile(beginning: str, work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run something on another connection right before the first statement that begins so."""
    done: list[Any] = []

    def wrapper(execute: Any, sql: Any, *args: Any) -> Any:
        text = str(sql).replace('"', "").replace("`", "")
        # It may be a part of a statement of PostgreSQL, or of a packet to MariaDB.
        if (text.startswith(beginning) or f"AS ({beginning} " in text or f"; {beginning} " in text) and not done:
            done.append(None)
            done[0] = elsewhere(work)
        return execute(sql, *args)

    with connection.execute_wrapper(wrapper):
        yield done
    assert done, f"no statement began with {beginning}"
    assert not isinstance(done[0], Exception), done


def check(**options: Any) -> None:
    assert prove(**options).problems == []


class TestRivals:
    @pytest.mark.parametrize("level", ["default", "the server's default", "repeatable read", "serializable"])
    def test_the_trail_is_true_whoever_else_writes(self, level: str, tmp_path: Path) -> None:
        options = LEVELS[connection.vendor].get(level)
        if options is None:
            pytest.skip("another database's level")
        report = run(
            "rivals",
            databases=databases(tmp_path, **options),
            audit=EVERYTHING,
            processes=8,
            seed=choose(3, int(time.time())),
            count=choose(20, 300),
        )
        assert report["proof"]["problems"] == []
        assert report["proof"]["events"] > choose(80, 1000)
        # What an application repeats succeeds in the end.
        assert sum(report["done"].values()) > 8 * choose(20, 300) * 0.8

    def test_writes_in_order_never_wait_for_each_other(self, tmp_path: Path) -> None:
        work = {"processes": 8, "seed": 5, "count": choose(30, 300), "steps": ORDERLY}
        report = run("rivals", databases=databases(tmp_path), audit=EVERYTHING, **work)
        assert report["proof"]["problems"] == []
        assert [kind for kind in report["errors"] if is_locking(kind)] == []

    def test_delivery_after_the_commit_is_in_nobodys_way(self, tmp_path: Path) -> None:
        report = run(
            "rivals",
            databases=databases(tmp_path),
            audit={**EVERYTHING, "DISPATCHER": "django_signal_audit.dispatchers.OnCommitDispatcher"},
            processes=8,
            seed=7,
            count=choose(10, 100),
            steps=ORDERLY,
        )
        assert report["proof"]["problems"] == []
        assert [kind for kind in report["errors"] if is_locking(kind)] == []

    def test_the_same_members_added_by_all_are_added_once(self, tmp_path: Path) -> None:
        report = run(
            "crowds", databases=databases(tmp_path), audit=EVERYTHING, processes=8, rounds=choose(10, 100), what="pairs"
        )
        assert report == {"problems": [], "rounds": choose(10, 100)}

    def test_the_same_row_upserted_by_all_is_created_once(self, tmp_path: Path) -> None:
        report = run(
            "crowds",
            databases=databases(tmp_path),
            audit=EVERYTHING,
            processes=8,
            rounds=choose(10, 100),
            what="upsert",
        )
        assert report == {"problems": [], "rounds": choose(10, 100)}


def waits_for_others(write: Callable[[], Any]) -> bool:
    """Return whether a write waits while another transaction has the row of "theirs"."""
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Product.objects.filter(pk=Product.objects.get(slug="theirs").pk).update(stock=1)
                begun.set()
                done.wait(10)
        finally:
            connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert begun.wait(10)
        with connection.cursor() as cursor:
            is_mysql = connection.vendor == "mysql"
            cursor.execute("SET innodb_lock_wait_timeout = 1" if is_mysql else "SET lock_timeout = '1s'")
        write()
    except OperationalError:
        return True
    finally:
        done.set()
        holder.join()
        connection.close()
    return False


@servers_only
class TestRowsOfOthers:
    """An UPDATE passes over the rows that others have locked and that its condition leaves out."""

    WRITES: ClassVar = {
        "by a column without an index": lambda: Product.objects.filter(name="mine").update(stock=2),
        "that concerns no row": lambda: Product.objects.filter(name="nobody's").update(stock=2),
        "by a join": lambda: Product.objects.filter(category__name="mine").update(stock=2),
        "by a key and more": lambda: Product.objects.filter(pk=Product.objects.get(slug="mine").pk, name="mine").update(
            stock=2
        ),
        "by two columns": lambda: Product.objects.filter(Q(name="mine") | Q(name="mine too")).update(
            stock=F("stock") + 1
        ),
    }

    @pytest.mark.parametrize("name", WRITES)
    @pytest.mark.parametrize("is_audited", [True, False])
    def test_it_does_not_wait_for_them(self, audit: Audit, name: str, is_audited: bool) -> None:
        if name == "by a join" and not is_audited and connection.vendor == "mysql":
            pytest.skip("Django's own statement waits")
        Category.objects.create(name="mine")
        for owner in ("theirs", "mine"):
            Product.objects.create(name=owner, slug=owner, category=Category.objects.get() if owner == "mine" else None)
        audit(*([] if is_audited else [{"name": "tags", "model": "app.Tag"}]))
        assert not waits_for_others(self.WRITES[name])

    def test_it_waits_for_those_that_it_concerns(self, audit: Audit) -> None:
        audit()
        Product.objects.create(name="theirs", slug="theirs")
        assert waits_for_others(lambda: Product.objects.filter(name="theirs").update(stock=2))


@servers_only
class TestMeanwhile:
    """What others commit between the look and the write."""

    def test_a_row_that_appears_before_a_save_writes_it(self, audit: Audit) -> None:
        audit()
        with meanwhile("UPDATE app_country", lambda: Country.objects.create(code="AT", name="old")):
            Country(code="AT", name="new").save()
        assert [(event.event_type, event.changes["name"]) for event in events()] == [
            ("create", [None, "old"]),
            ("update", ["old", "new"]),
        ]
        check(notified=False)

    def test_a_childs_row_that_appears_between_two_looks_of_an_update(self, audit: Audit) -> None:
        audit()
        Place.objects.create(name="old")
        with meanwhile(
            "SELECT app_place.id, app_place.name FROM app_place", lambda: Restaurant.objects.create(name="old", stars=3)
        ):
            Place.objects.update(name="new")
        assert [(event.model, event.event_type) for event in events()] == [
            ("app.place", "create"),
            ("app.restaurant", "create"),
            ("app.restaurant", "update"),
            ("app.place", "update"),
        ]
        check(notified=False)

    def test_a_childs_row_that_appears_before_its_parents_is_saved(self, audit: Audit) -> None:
        audit()
        with meanwhile("SELECT app_place.name", lambda: Restaurant.objects.create(pk=77, name="old", stars=3)):
            Place(pk=77, name="new").save()
        assert [(event.model, event.event_type, event.changes["name"]) for event in events()] == [
            ("app.restaurant", "create", [None, "old"]),
            ("app.restaurant", "update", ["old", "new"]),
        ]
        check(notified=False)

    @pytest.mark.parametrize("token", ["same", "other"])
    def test_a_masked_value_of_such_a_row_keeps_its_tag(self, audit: Audit, token: str) -> None:
        audit()
        with meanwhile("UPDATE app_product", lambda: Product.objects.create(pk=10001, api_token="same", blob=b"x")):
            Product(pk=10001, api_token=token, blob=b"x", name="new").save()
        assert ("api_token" in events()[-1].changes) is (token == "other")
        assert "blob" not in events()[-1].changes
        check(notified=False)

    @pytest.mark.skipif("connection.vendor == 'mysql'", reason="two racing upserts may both read as create there")
    def test_a_row_that_appears_before_an_upsert(self, audit: Audit) -> None:
        audit()
        with meanwhile("INSERT INTO app_country", lambda: Country.objects.create(code="AT", name="old")):
            Country.objects.bulk_create([Country(code="AT", name="new")], **upsert_options("default"))
        assert [event.event_type for event in events()] == ["create", "update"]
        check(notified=False)

    def test_rows_that_begin_to_match_an_update(self, audit: Audit) -> None:
        Product.objects.create(name="one", stock=1)
        audit(ENGINE="portable")
        with meanwhile("UPDATE app_product", lambda: Product.objects.create(name="two", stock=1)):
            assert Product.objects.filter(stock=1).update(stock=2) == 1
        assert [event.event_type for event in events()] == ["create", "update"]
        assert Product.objects.get(name="two").stock == 1

    def test_rows_that_begin_to_match_a_delete(self, audit: Audit) -> None:
        audit()
        Country.objects.create(code="AT", name="one")
        with meanwhile("DELETE FROM app_country", lambda: Country.objects.create(code="BE", name="two")):
            Country.objects.filter(name__in=["one", "two"]).delete()
        check(notified=False)

    @postgresql_only
    @pytest.mark.parametrize("then", [(), ("clear",)])
    def test_members_of_a_row_that_is_deleted_meanwhile_and_comes_back(self, audit: Audit, then: tuple[str]) -> None:
        """PostgreSQL looks for the owner of a pair at the commit: until then it may go, and be saved again."""
        audit()
        product, tag = Product.objects.create(name="oak"), Tag.objects.create(name="wood")
        with transaction.atomic():
            if then:
                tag.products.add(product)
            call = getattr(tag.products, then[0]) if then else partial(tag.products.add, product)
            with meanwhile("SELECT app_product.id", Product.objects.get(pk=product.pk).delete):
                call()
            elsewhere(lambda: Product.objects.create(pk=product.pk, name="oak again"))
        assert set(product.tags.all()) == (set() if then else {tag})
        check(notified=False)

    def test_members_that_come_before_all_are_taken(self, audit: Audit) -> None:
        audit()
        product, tags = Product.objects.create(name="x"), [Tag.objects.create(name="t") for _ in range(2)]
        product.tags.add(tags[0])
        with meanwhile("DELETE FROM app_product_tags", lambda: Product.objects.get().tags.add(tags[1])):
            product.tags.clear()
        check(notified=False)

    def test_an_update_that_changes_nothing_of_what_others_committed(self, audit: Audit) -> None:
        """Repeatable reads show the row as it was: what is compared has to be what is stored now."""
        audit()
        product = Product.objects.create(name="x", stock=1)
        with isolation("REPEATABLE READ"), transaction.atomic():
            assert Product.objects.get().stock == 1
            elsewhere(lambda: Product.objects.filter(pk=product.pk).update(stock=2))
            try:
                # Makes no new version of the row on MariaDB.
                Product.objects.filter(pk=product.pk).update(stock=2)
                Product.objects.filter(pk=product.pk).update(name=Concat("name", "name"))
            except OperationalError:
                transaction.set_rollback(True)
        check(notified=False)


@contextmanager
def isolation(level: str) -> Iterator[None]:
    """Have the transactions of a block at a level, on this connection."""
    before = "READ COMMITTED"
    scope = "SESSION CHARACTERISTICS AS" if connection.vendor == "postgresql" else "SESSION"
    with connection.cursor() as cursor:
        cursor.execute(f"SET {scope} TRANSACTION ISOLATION LEVEL {level}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"SET {scope} TRANSACTION ISOLATION LEVEL {before}")


WRITES: dict[str, Callable[[Product], Any]] = {
    "save": lambda product: product.save(),
    "update_fields": lambda product: product.save(update_fields=["stock"]),
    "update": lambda product: Product.objects.filter(pk=product.pk).update(stock=F("stock") + 1),
    "bulk_update": lambda product: Product.objects.bulk_update([product], ["stock"]),
}

# Of a slug, which is unique.
KEY_WRITES: dict[str, Callable[[Product], Any]] = {
    "save": lambda product: product.save(),
    "update_fields": lambda product: product.save(update_fields=["slug"]),
    "update": lambda product: Product.objects.filter(name="x").update(slug=product.slug),
    "bulk_update": lambda product: Product.objects.bulk_update([product], ["slug"]),
}


@postgresql_only
class TestLockStrength:
    @pytest.mark.parametrize("write", WRITES)
    def test_others_may_refer_to_a_row_that_is_being_updated(self, audit: Audit, write: str) -> None:
        audit()
        product = Product.objects.create(name="x")
        with transaction.atomic():
            product.stock = 3
            WRITES[write](product)
            assert isinstance(elsewhere(partial(refer, product)), Picture)
        check(notified=False)

    def test_nobody_may_refer_to_a_row_that_is_being_deleted(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="x")
        with transaction.atomic():
            Product.objects.filter(pk=product.pk).delete()
            assert isinstance(elsewhere(partial(refer, product)), OperationalError)

    @pytest.mark.parametrize("engine", ["auto", "portable"])
    @pytest.mark.parametrize("is_inside", [False, True])
    @pytest.mark.parametrize("write", KEY_WRITES)
    def test_who_changes_what_others_may_refer_by_waits_for_them_and_they_not_for_him(
        self, audit: Audit, write: str, is_inside: bool, engine: str
    ) -> None:
        audit(ENGINE=engine)
        product = Product.objects.create(name="x", slug="a")

        def change() -> None:
            with transaction.atomic() if is_inside else nullcontext():
                KEY_WRITES[write](Product(pk=product.pk, name="x", slug="b"))

        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    # As constraints are that Django hasn't made.
                    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                Picture.objects.create(product=product, file="x.png")
                changed = pool.submit(elsewhere, change)
                wait_for_a_waiter()
                Product.objects.filter(pk=product.pk).update(stock=2)
            assert changed.result() is None
        product.refresh_from_db()
        assert (product.slug, product.stock) == ("b", 0 if write == "save" else 2)
        check(notified=False)


def wait_for_a_waiter() -> None:
    """Return once somebody waits for a lock."""
    for _ in range(1000):
        with connection.cursor() as cursor:
            cursor.execute(WAITING)
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def refer(product: Product) -> Picture:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '300ms'")
    return Picture.objects.create(product=product, file="x.png")


class TestErrorsThatPass:
    @servers_only
    def test_a_lock_timeout_at_the_event_looks_like_the_databases_own(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="x")
        with locked_trail():
            product.stock = 5
            with pytest.raises(OperationalError) as raised:
                product.save()
        assert is_locking(f"{raised.value.args[0]} {kind_of(raised.value)}")
        assert Product.objects.get().stock == 0
        check(notified=False)


@contextmanager
def locked_trail() -> Iterator[None]:
    """Keep the table of the events locked by somebody else, and do not wait long for it."""
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "LOCK TABLE django_signal_audit_auditevent IN SHARE MODE"
                    if connection.vendor == "postgresql"
                    else "LOCK TABLES django_signal_audit_auditevent READ"
                )
                locked.set()
                done.wait(30)
                if connection.vendor == "mysql":
                    cursor.execute("UNLOCK TABLES")
        finally:
            locked.set()
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(hold)
        locked.wait(30)
        with connection.cursor() as cursor:
            timeout = "lock_timeout = '300ms'" if connection.vendor == "postgresql" else "SESSION lock_wait_timeout = 1"
            cursor.execute(f"SET {timeout}")
        try:
            yield
        finally:
            done.set()
            connection.close()
            future.result()
