"""The event and its notifications commit with the change, or none of them exists, whatever goes wrong and wherever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from django_signal_audit.capture.engines import mariadb, postgresql
from django_signal_audit.capture.engines.mariadb import sets as mariadb_sets
from django_signal_audit.capture.engines.postgresql import sets
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.signals import event_recorded

from .app.models import Category, Person, Picture, Product, Restaurant, Room, Shelf, Tag, Thing
from .conftest import Audit, events, run_async
from .notices import calling, receiving
from .processes.proof import prove
from .processes.stage import EVERYTHING

pytestmark = pytest.mark.django_db(transaction=True)


class Undo(Exception):
    """Raised to have a block rolled back."""


@contextmanager
def undone(*, by_hand: bool = False) -> Iterator[None]:
    """Run a block in a transaction or savepoint that rolls back."""
    with suppress(Undo), transaction.atomic():
        yield
        if by_hand:
            transaction.set_rollback(True)
            return
        raise Undo


@pytest.fixture(autouse=True)
def rules(audit: Audit, transactional_db: None) -> None:
    """Watch everything, and tell somebody of it."""
    audit(*EVERYTHING["RULES"], **{key: value for key, value in EVERYTHING.items() if key != "RULES"})


@pytest.fixture
def agree() -> Iterator[None]:
    """Compare tables, trail and outbox at the end of a test."""
    yield
    assert prove().problems == []


@contextmanager
def receiver(signal: Any, react: Callable[..., Any], sender: Any = Category) -> Iterator[None]:
    """Have the project react to a signal."""

    def receive(sender: Any, **kwargs: Any) -> None:
        react(**kwargs)

    signal.connect(receive, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(receive, sender=sender)


def refuse(*_: Any, **__: Any) -> Any:
    """Write what no database takes."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO no_such_table VALUES (1)")


def refuse_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_signal_audit.recorder.insert_row", refuse)
    monkeypatch.setattr("django_signal_audit.recorder.insert_rows", refuse)
    monkeypatch.setattr("django_signal_audit.capture.whole_rows.insert_alike", refuse)
    # Statements that write the event along with the change.
    for engine in (postgresql, sets):
        monkeypatch.setattr(engine, "event_sql", lambda *_, **__: "INSERT INTO no_such_table SELECT q.uid, q.at")
        monkeypatch.setattr(engine, "event_params", lambda *_: [None])
    for name in ("_delete_parts", "_members_parts", "_insert_parts", "_update_parts"):
        monkeypatch.setattr(postgresql, name, getattr(postgresql, name).__wrapped__)
    for module, name in (
        (mariadb, "_event_statement"),
        (mariadb, "insert_statement"),
        (mariadb_sets, "_events"),
    ):
        monkeypatch.setattr(module, name, lambda *_, **__: ("INSERT INTO no_such_table VALUES (1)", ()))


# Every way to write, on a product of the name "p", which has the tag "t" and not the tag "u".
WRITES: dict[str, Callable[[], Any]] = {
    "create": lambda: Category.objects.create(name="c"),
    "save": lambda: Product(pk=Product.objects.get().pk, name="q").save(),
    "update_fields": lambda: Product(pk=Product.objects.get().pk, name="q").save(update_fields=["name"]),
    "child": lambda: Restaurant.objects.create(name="r", stars=2),
    "get_or_create": lambda: Category.objects.get_or_create(name="c"),
    "update_or_create": lambda: Product.objects.update_or_create(name="p", defaults={"stock": 4}),
    "bulk_create": lambda: Category.objects.bulk_create([Category(name="c"), Category(name="d")]),
    "bulk_create one": lambda: Category.objects.bulk_create([Category(name="c")]),
    "bulk_update": lambda: Product.objects.bulk_update([Product(pk=Product.objects.get().pk, stock=4)], ["stock"]),
    "update": lambda: Product.objects.update(stock=F("stock") + 1),
    "delete": lambda: Product.objects.get().delete(),
    "queryset delete": lambda: Product.objects.all().delete(),
    "cascade": lambda: Category.objects.get(name="old").delete(),
    "raw delete": lambda: Picture.objects.all()._raw_delete("default"),
    "add": lambda: Product.objects.get().tags.add(Tag.objects.get(name="u")),
    "remove": lambda: Product.objects.get().tags.remove(Tag.objects.get(name="t")),
    "set": lambda: Product.objects.get().tags.set([Tag.objects.get(name="u")]),
    "clear": lambda: Product.objects.get().tags.clear(),
    "reverse": lambda: Tag.objects.get(name="u").products.set([Product.objects.get()]),
    "reverse foreign key": lambda: Category.objects.get(name="old").products.clear(),
    "through": lambda: Product.tags.through.objects.update(tag=Tag.objects.get(name="u")),
}


@pytest.fixture
def stock() -> None:
    """Put the rows there that the writes are about."""
    one = Product.objects.create(name="p", category=Category.objects.create(name="old"))
    Picture.objects.create(product=one, file="x.png")
    one.tags.add(Tag.objects.create(name="t"))
    Tag.objects.create(name="u")


def tables() -> dict[str, list[Any]]:
    """Return what all tables hold."""
    watched = (Product, Category, Picture, Tag, Restaurant, Room, Product.tags.through, AuditEvent, Notification)
    return {model.__name__: list(model._base_manager.order_by("pk").values()) for model in watched}


@pytest.mark.usefixtures("agree", "stock")
class TestRollbacks:
    @pytest.mark.parametrize("by_hand", [False, True])
    def test_a_transaction_that_rolls_back_leaves_no_event(self, by_hand: bool) -> None:
        before = tables()
        for name, write in WRITES.items():
            with undone(by_hand=by_hand):
                write()
                assert tables() != before, name
            assert tables() == before, name

    def test_a_savepoint_rolled_back_between_others_that_stay(self) -> None:
        for name, write in WRITES.items():
            with undone():
                Tag.objects.create(name="first")
                with transaction.atomic():
                    Tag.objects.create(name="second")
                    between = tables()
                    with undone(), transaction.atomic():
                        write()
                    assert tables() == between, name
                write()
                assert len(events()) > len(between["AuditEvent"]), name
                assert prove().problems == [], name

    def test_a_savepoint_made_by_hand(self) -> None:
        with transaction.atomic():
            before = tables()
            for name, write in WRITES.items():
                mark = connection.savepoint()
                write()
                connection.savepoint_rollback(mark)
                assert tables() == before, name

    @pytest.mark.parametrize("write", WRITES)
    def test_a_rollback_without_autocommit_leaves_no_event(self, write: str) -> None:
        if connection.vendor == "sqlite" and write in ("get_or_create", "update_or_create"):
            pytest.skip("the end of Django's own savepoint is a commit there, audited or not")
        before = tables()
        transaction.set_autocommit(False)
        try:
            WRITES[write]()
            transaction.rollback()
            assert tables() == before
            WRITES[write]()
            transaction.commit()
            after = tables()
            assert after != before
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        assert tables() == after


@pytest.mark.usefixtures("stock")
class TestEventsThatCannotBeWritten:
    @pytest.fixture(params=["event", "notification"])
    def broken(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        """Let the database refuse the event, or the notification after it."""
        if request.param == "notification":
            monkeypatch.setattr("django_signal_audit.delivery.outbox.enqueue", refuse)
        else:
            refuse_events(monkeypatch)
        return str(request.param)

    def test_they_leave_no_change(self, broken: str) -> None:
        before = tables()
        for name, write in WRITES.items():
            with pytest.raises(EventNotWritten, match="no_such_table"):
                write()
            assert tables() == before, name

    def test_nor_where_somebody_goes_on_as_if_nothing_had_happened(self, broken: str) -> None:
        before = tables()
        for name, write in WRITES.items():
            with transaction.atomic(), pytest.raises(EventNotWritten):
                write()
            assert tables() == before, name

    def test_a_savepoint_around_them_is_enough(self, broken: str) -> None:
        before = tables()
        with transaction.atomic():
            for name, write in WRITES.items():
                with pytest.raises(EventNotWritten), transaction.atomic():
                    write()
                assert tables() == before, name

    def test_with_on_error_log_the_change_stands(
        self, broken: str, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "ON_ERROR": "log"}
        before = tables()
        for name, write in WRITES.items():
            caplog.clear()
            with undone():
                write()
                after = tables()
            assert "no_such_table" in caplog.text, name
            assert after.pop("Notification") == before["Notification"], name
            if broken == "event":
                assert after["AuditEvent"] == before["AuditEvent"], name
            after["AuditEvent"] = before["AuditEvent"]
            assert after != {key: before[key] for key in after}, name


TAKEN = {"code": "taken", "floor": 9, "number": 9}
# Writes that the database refuses, the last of several rows each: the first ones are written by then, or would be.
FAILING: dict[str, Callable[[], Any]] = {
    "save": lambda: Room(**TAKEN).save(),
    "save of a row": lambda: Room(pk=Room.objects.get(code="free").pk, **TAKEN).save(),
    "update_fields": lambda: Room(pk=Room.objects.get(code="free").pk, **TAKEN).save(update_fields=["code"]),
    "forced insert": lambda: Room(pk=Room.objects.get(code="free").pk, code="x").save(force_insert=True),
    "bulk_create": lambda: Room.objects.bulk_create(
        [Room(code="new", floor=1), Room(code="newer", floor=2), Room(**TAKEN)], batch_size=1
    ),
    "bulk_create in one": lambda: Room.objects.bulk_create([Room(code="new", floor=1), Room(**TAKEN)]),
    "bulk_update": lambda: Room.objects.bulk_update(
        [
            Room(pk=Room.objects.get(code="free").pk, code="a", floor=3),
            Room(pk=Room.objects.get(code="other").pk, code="taken", floor=4),
        ],
        ["code", "floor"],
        batch_size=1,
    ),
    "update": lambda: Room.objects.update(code="same"),
    "protected": lambda: Person.objects.all().delete(),
    "set": lambda: Product.objects.get().tags.set([Tag.objects.get(name="u").pk, 987654]),
    "add": lambda: Product.objects.get().tags.add(Tag.objects.get(name="u").pk, 987654),
    # PostgreSQL and SQLite look at foreign keys when the transaction ends.
    "foreign key": lambda: Product.objects.create(name="q", category_id=987654),
}


LATE = {FAILING[name] for name in ("set", "add", "foreign key")}


@pytest.mark.usefixtures("agree", "stock")
class TestFailingWrites:
    @pytest.fixture(autouse=True)
    def rooms(self, stock: None) -> None:
        Room.objects.create(**TAKEN)
        Room.objects.create(code="free")
        Room.objects.create(code="other", floor=1)
        Thing.objects.create(
            name="x", shelf=Shelf.objects.create(code="attic"), keeper=Person.objects.create(name="keeper")
        )

    def test_they_leave_neither_change_nor_event_nor_notification(self) -> None:
        before = tables()
        for name, write in FAILING.items():
            if connection.vendor == "mysql" and name in ("set", "add"):
                continue  # INSERT IGNORE leaves out such members there, and says nothing
            with pytest.raises(IntegrityError):
                write()
            assert tables() == before, name

    def test_others_of_the_transaction_stay(self) -> None:
        before = tables()
        with transaction.atomic():
            Tag.objects.create(name="before")
            for write in FAILING.values():
                if write not in LATE:
                    with pytest.raises(IntegrityError), transaction.atomic():
                        write()
            Tag.objects.create(name="after")
        assert len(events()) == len(before["AuditEvent"]) + 2

    def test_the_same_object_can_be_saved_once_its_mistake_is_mended(self) -> None:
        room = Room(**TAKEN)
        with pytest.raises(IntegrityError):
            room.save()
        room.code, room.number = "mine", 1
        room.save()
        assert events(model="app.room")[-1].changes["code"] == [None, "mine"]

    def test_a_row_that_an_update_does_not_find(self) -> None:
        before = tables()
        with pytest.raises(DatabaseError, match="did not affect any rows"):
            Room(pk=987654, code="x").save(update_fields=["code"])
        assert tables() == before


def take_the_taken(**_: Any) -> None:
    """Write what the database refuses, and go on as if nothing had happened."""
    with suppress(IntegrityError):
        Room.objects.create(**TAKEN)


def raise_undo(**_: Any) -> None:
    raise Undo


@pytest.mark.usefixtures("agree")
class TestReceivers:
    """What the project's own receivers do to a write and to its event."""

    @pytest.fixture(autouse=True)
    def rooms(self) -> None:
        Room.objects.create(**TAKEN)

    @pytest.mark.parametrize("sender", [Category, None])
    def test_one_that_raises_after_a_save_is_outside_of_it(self, sender: Any) -> None:
        """As without the package: in autocommit the row is stored by then."""
        with receiver(post_save, raise_undo, sender), pytest.raises(Undo):
            Category.objects.create(name="c")
        assert Category.objects.get().name == "c"

    def test_one_that_raises_before_a_save(self) -> None:
        before = tables()

        def validate(instance: Category, **_: Any) -> None:
            if instance.name == "bad":
                raise ValidationError("bad")

        with receiver(pre_save, validate):
            with pytest.raises(ValidationError):
                Category.objects.create(name="bad")
            with transaction.atomic():
                with pytest.raises(ValidationError):
                    Category.objects.create(name="bad")
                assert tables() == before
                Category.objects.create(name="good")
        assert [event.object_repr for event in events(model="app.category")] == ["good"]

    @pytest.mark.parametrize("savepoint", [True, False])
    def test_one_that_raises_in_the_callers_transaction(self, savepoint: bool) -> None:
        with receiver(post_save, raise_undo), transaction.atomic():
            Tag.objects.create(name="t")
            with suppress(Undo), transaction.atomic() if savepoint else nullcontext():
                Category.objects.create(name="c")
        # What the caller goes on with is committed, and its event.
        assert Category.objects.count() == (0 if savepoint else 1)
        assert Tag.objects.exists()

    def test_an_error_that_one_handles_does_not_take_the_save_along(self) -> None:
        with receiver(post_save, take_the_taken):
            Category.objects.create(name="c").delete()
            category = Category.objects.create(name="d")
        assert Category.objects.get() == category
        assert [event.event_type for event in events(model="app.category")] == ["create", "delete", "create"]

    def test_its_commit_hooks_run_when_they_did(self) -> None:
        order: list[str] = []

        def hook(**_: Any) -> None:
            transaction.on_commit(lambda: order.append("hook"))
            order.append("receiver")

        with receiver(post_save, hook):
            Category.objects.create(name="c")
            with transaction.atomic():
                Category.objects.create(name="d")
        assert order == ["hook", "receiver", "receiver", "hook"]

    @pytest.mark.parametrize("signal", [pre_delete, post_delete])
    def test_one_that_raises_in_a_deletion(self, signal: Any) -> None:
        Category.objects.create(name="c")
        before = tables()
        for delete in (Category.objects.get().delete, Category.objects.all().delete):
            with receiver(signal, raise_undo), pytest.raises(Undo):
                delete()
            assert tables() == before

    @pytest.mark.parametrize("action", ["pre_add", "post_add", "pre_remove", "post_remove"])
    def test_one_that_raises_in_the_middle_of_a_set(self, action: str) -> None:
        product = Product.objects.create(name="p")
        one, two = (Tag.objects.create(name=name) for name in "ab")
        product.tags.set([one])
        before = tables()

        def react(action: str, **_: Any) -> None:
            if action == wanted:
                raise Undo

        wanted = action
        with receiver(m2m_changed, react, Product.tags.through), pytest.raises(Undo):
            product.tags.set([two])
        assert tables() == before

    def test_what_one_rolls_back_inside_a_bulk_call_is_told_to_nobody(self) -> None:
        Category.objects.bulk_create([Category(name="c"), Category(name="d")])

        def react(instance: Category, **_: Any) -> None:
            with transaction.atomic():
                Tag.objects.create(name="kept")
            with undone():
                Tag.objects.create(name="gone")
                Tag.objects.bulk_create([Tag(name="gone too")])

        with receiver(post_delete, react):
            Category.objects.all().delete()
        assert [tag.name for tag in Tag.objects.all()] == ["kept", "kept"]

    def test_one_of_an_event_breaks_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        def break_it(**_: Any) -> None:
            Room.objects.create(**TAKEN)

        with receiver(event_recorded, break_it, AuditEvent):
            Category.objects.create(name="c")
            Category.objects.bulk_create([Category(name="d"), Category(name="e")])
            with transaction.atomic():
                Category.objects.update(name="f")
        assert "IntegrityError" in caplog.text
        assert [category.name for category in Category.objects.all()] == ["f"] * 3


@pytest.mark.usefixtures("agree")
class TestDelivery:
    """What is told at once, after the commit."""

    @pytest.fixture(autouse=True)
    def rules(self, settings: Any, transactional_db: None) -> None:
        settings.SIGNAL_AUDIT = {
            "RULES": [{"name": "all", "model": "app.*", "notify": ["take"]}],
            "CHANNELS": {"take": calling("take")},
        }

    def test_it_comes_after_the_commit_in_the_order_of_the_hooks(self) -> None:
        order: list[str] = []
        with receiving() as received:
            with transaction.atomic():
                transaction.on_commit(lambda: order.append(f"before, told {len(received)}"))
                Category.objects.create(name="c")
                transaction.on_commit(lambda: order.append(f"after, told {len(received)}"))
                with undone():
                    Category.objects.create(name="gone")
                    transaction.on_commit(lambda: order.append("gone"))
                assert received == []
            assert order == ["before, told 0", "after, told 1"]
            assert [message.event.object_repr for message in received if message.event] == ["c"]

    def test_a_hook_that_raises_loses_nothing(self) -> None:
        def fail() -> None:
            raise Undo

        with receiving() as received:
            with suppress(Undo), transaction.atomic():
                transaction.on_commit(fail)
                Category.objects.create(name="c")
            assert Category.objects.exists()
            assert received == []
            assert Notification.objects.get().status == "pending"
            call_command("audit_deliver", once=True, stdout=StringIO())
            assert len(received) == 1


async def write_all_ways() -> None:
    """Write by every method that has an asynchronous twin."""
    tag, other = await Tag.objects.acreate(name="t"), await Tag.objects.acreate(name="u")
    product = await Product.objects.acreate(name="p")
    product.name = "q"
    await product.asave()
    await product.asave(update_fields=["name"])
    await Product.objects.aupdate(stock=F("stock") + 1)
    await product.tags.aadd(tag)
    await product.tags.aset([other])
    await product.tags.aremove(other)
    await product.tags.aset([tag, other])
    await product.tags.aclear()
    await product.tags.acreate(name="v")
    await product.arefresh_from_db()
    product.stock = 7
    await Product.objects.abulk_update([product], ["stock"])
    await Category.objects.abulk_create([Category(name="c"), Category(name="d")])
    category, _ = await Category.objects.aget_or_create(name="e")
    await Category.objects.aupdate_or_create(name="e", defaults={"parent": await Category.objects.aget(name="c")})
    await category.products.aset([product])
    await category.products.aclear()
    await category.adelete()
    await Category.objects.all().adelete()


class TestAsync:
    @pytest.mark.usefixtures("agree")
    def test_every_async_method_is_recorded(self) -> None:
        run_async(write_all_ways())
        assert [event.event_type for event in events(model="app.product")] == [
            *["create", "update", "update"],
            *["m2m", "m2m", "m2m", "m2m", "m2m", "m2m"],
            *["update", "update", "update"],
        ]

    @pytest.mark.usefixtures("agree")
    def test_a_failing_one(self) -> None:
        Room.objects.create(**TAKEN)
        before = tables()

        async def fail() -> None:
            with pytest.raises(IntegrityError):
                await Room(**TAKEN).asave()
            with pytest.raises(IntegrityError):
                await Room.objects.abulk_create([Room(code="x"), Room(**TAKEN)])

        run_async(fail())
        assert tables() == before

    def test_an_event_that_cannot_be_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        refuse_events(monkeypatch)
        before = tables()

        async def fail() -> None:
            with pytest.raises(EventNotWritten):
                await Tag.objects.acreate(name="t")

        run_async(fail())
        assert tables() == before
