"""Claims about what is recorded, and whether the record is true."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from .base import Package
from .trying import (
    NO,
    YES,
    Verdict,
    by_raw_sql,
    has_deletion,
    has_price,
    holds,
    partly,
    product,
    recorded,
    statements,
    tag,
    unsaved_product,
)

NINE = Decimal("9.00")


def _plain_or_own(one: Package, name: str, plain: Callable[[], bool], own: Callable[[Any], bool]) -> Verdict:
    """Return whether Django's call is recorded, or else the package's own."""
    try:
        if plain():
            return YES
        note = ""
    except Exception as error:  # noqa: BLE001 (a package may raise anything; the table says that it did)
        note = f"Django's call fails with `{type(error).__name__}`; "
    call = one.own_calls().get(name)
    return partly(f"{note}only by a call or an argument of the package") if call and own(call) else NO


def created_and_saved(one: Package) -> Verdict:
    made = product(one)
    with recorded(one, made.pk) as found:
        made.price = NINE
        made.save()
    return holds(next(one.records(made.pk)).kind == "create" and has_price(found))


def without_a_block(one: Package) -> Verdict:
    made = product(one)
    before = len(list(one.records(made.pk)))
    made.price = NINE
    made.save()
    return holds(
        has_price(list(one.records(made.pk))[before:]),
        "only in a revision, which the middleware opens for requests",
    )


def deleted(one: Package) -> Verdict:
    made = product(one)
    key = made.pk
    with recorded(one, key) as found:
        made.delete()
    return holds(has_deletion(found))


def updated_by_queryset(one: Package) -> Verdict:
    from .models import Product

    def plain() -> bool:
        made = product(one)
        with recorded(one, made.pk) as found:
            Product.objects.filter(pk=made.pk).update(price=NINE)
        return has_price(found)

    def own(call: Any) -> bool:
        made = product(one)
        with recorded(one, made.pk) as found:
            call(made.pk, price=NINE)
        return has_price(found)

    return _plain_or_own(one, "update", plain, own)


def created_in_bulk(one: Package) -> Verdict:
    from .models import Product

    def tried(call: Callable[[list[Any]], object]) -> bool:
        made = unsaved_product(price=NINE)
        with one.doing():
            call([made])
        return has_price(list(one.records(Product.objects.get(code=made.code).pk)))

    return _plain_or_own(one, "bulk_create", lambda: tried(Product.objects.bulk_create), tried)


def updated_in_bulk(one: Package) -> Verdict:
    from .models import Product

    def tried(call: Callable[[list[Any]], object]) -> bool:
        made = product(one)
        made.price = NINE
        with recorded(one, made.pk) as found:
            call([made])
        return has_price(found)

    return _plain_or_own(
        one, "bulk_update", lambda: tried(lambda rows: Product.objects.bulk_update(rows, ["price"])), tried
    )


def deleted_by_queryset(one: Package) -> Verdict:
    from .models import Product

    def tried(call: Callable[[int], object]) -> bool:
        key = product(one).pk
        with recorded(one, key) as found:
            call(key)
        return has_deletion(found)

    return _plain_or_own(one, "delete", lambda: tried(lambda key: Product.objects.filter(pk=key).delete()), tried)


def deleted_by_cascade(one: Package) -> Verdict:
    from .models import Category

    category = Category.objects.create(name="Tea")
    key = product(one, category=category).pk
    with recorded(one, key) as found:
        category.delete()
    return holds(has_deletion(found))


def set_null(one: Package) -> Verdict:
    from .models import Supplier

    supplier = Supplier.objects.create(name="Ada")
    made = product(one, supplier=supplier)
    with recorded(one, made.pk) as found:
        supplier.delete()
    return holds(any(record.new.get("supplier") == "None" for record in found))


def m2m_forward(one: Package) -> Verdict:
    made, added = product(one), tag()
    with recorded(one, made.pk) as found:
        made.tags.add(added)
    return holds(any(added.name in record.added for record in found))


def m2m_reverse(one: Package) -> Verdict:
    made, added = product(one), tag()
    with recorded(one, made.pk) as found:
        added.products.add(made)
    return holds(any(added.name in record.added for record in found))


def m2m_cleared(one: Package) -> Verdict:
    made, linked = product(one), tag()
    tag()
    with one.doing():
        made.tags.add(linked)
        made.save()
    with recorded(one, made.pk) as found:
        made.tags.clear()
    removed = frozenset[str]().union(*(record.removed for record in found))
    return holds(removed == {linked.name}, "lists tags that the object didn't have" if removed else "")


def fixture(one: Package) -> Verdict:
    from django.core import serializers

    made = unsaved_product(price=NINE)
    text = serializers.serialize("json", [made], fields=["name", "code", "price"])
    with one.doing():
        for item in serializers.deserialize("json", text):
            item.save()
    return holds(has_price(list(one.records(type(made).objects.get(code=made.code).pk))))


def saved_by_hand(one: Package) -> Verdict:
    made = product(one)
    with recorded(one, made.pk) as found:
        type(made)(pk=made.pk, name=made.name, code=made.code, price=NINE).save()
    if not has_price(found):
        return NO
    return YES if all(record.kind == "update" for record in found) else partly("recorded as a creation")


def raw_sql(one: Package) -> Verdict:
    made = product(one)
    with recorded(one, made.pk) as found:
        by_raw_sql(made.pk, 9)
    return holds(has_price(found))


def expressions(one: Package) -> Verdict:
    from django.db.models import F

    made = product(one)
    made.price = F("price") - 1
    with recorded(one, made.pk) as found:
        made.save()
    return holds(has_price(found), f"records `{found[-1].new.get('price')}`" if found else "")


def update_fields(one: Package) -> Verdict:
    made = product(one)
    made.name, made.price = "never saved", NINE
    with recorded(one, made.pk) as found:
        made.save(update_fields=["price"])
    is_untrue = any(record.new.get("name") == "never saved" for record in found)
    return holds(has_price(found) and not is_untrue, "records values that weren't saved" if is_untrue else "")


def stale_instance(one: Package) -> Verdict:
    made = product(one)
    by_raw_sql(made.pk, 7)
    made.price = NINE
    with recorded(one, made.pk) as found:
        made.save()
    return holds(found and found[-1].old.get("price") in ("7.00", "7"))


def nothing_changed(one: Package) -> Verdict:
    made = product(one)
    with recorded(one, made.pk) as found:
        made.save()
    return holds(not found)


def changed_in_place(one: Package) -> Verdict:
    made = product(one, details={"colours": ["green"]})
    with recorded(one, made.pk) as found:
        made.details["colours"].append("red")
        made.save()
    return holds(any("red" in record.new.get("details", "") for record in found))


def partly_loaded(one: Package) -> Verdict:
    made = type(product(one)).objects.only("name").latest("pk")
    made.name = "renamed"
    with one.doing():
        made.save()
    return holds("price" in made.get_deferred_fields())


def loading(one: Package) -> Verdict:
    made = [product(one) for _ in range(3)]
    with statements() as found:
        list(type(made[0]).objects.filter(pk__in=[row.pk for row in made]).only("name"))
    return holds(len(found) == 1, f"{len(found)} statements for {len(made)} rows")


def unaudited_deletion(one: Package) -> Verdict:
    from .models import Note

    Note.objects.bulk_create(Note(text=str(number)) for number in range(3))
    with statements() as found:
        Note.objects.all().delete()
    asked = [sql for sql in found if "claims_note" in sql]
    return holds(len(asked) == 1, "rows are loaded before they are deleted")
