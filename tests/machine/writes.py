"""The write paths of the ORM, each as a function that draws its arguments and returns the write to run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.db import connection, models
from django.db.models import F, Q
from hypothesis import strategies as st

from tests.app.models import (
    Category,
    CheapProduct,
    Country,
    Entry,
    Kiosk,
    Note,
    Person,
    Picture,
    Pizzeria,
    Place,
    Product,
    Restaurant,
    Room,
    Shelf,
    Tag,
    Thing,
)

from . import values
from .oracle import ruled

Write = Callable[[], Any]
MODELS = [*ruled(), CheapProduct]


def nothing() -> None:
    """Write nothing, for want of rows."""


def draw_model(draw: Any) -> type[models.Model]:
    return draw(st.sampled_from(MODELS))


def create(draw: Any) -> Write:
    model = draw_model(draw)
    fields = values.draw_values(draw, model, full=True)
    way = draw(st.sampled_from(["create", "save", "get_or_create", "update_or_create", "bulk"]))
    if way == "save":
        return lambda: model(**fields).save()
    if way == "bulk":
        return lambda: models.QuerySet(model).bulk_create([model(**fields)])
    return lambda: getattr(models.QuerySet(model), way)(**fields)


def save_by_hand(draw: Any) -> Write:
    """Save an instance that was built by hand, with a key that may exist."""
    model = draw_model(draw)
    fields = values.draw_values(draw, model, full=True)
    key = values.draw_key(draw, model)
    # Kiosk(pk=3) would be the kiosk of the place with the key 3, whichever was its place before.
    name = "number" if model is Kiosk else "pk"
    given = {} if key is None else {name: values.spelled(draw, key)} | values.links(model, key)
    flag = draw(st.sampled_from([{}, {}, {"force_insert": True}, {"force_update": True}]))
    return lambda: model(**(fields | given)).save(**flag)


def save(draw: Any) -> Write:
    model = draw_model(draw)
    key = values.draw_key(draw, model)
    if key is None:
        return nothing
    fields = values.draw_values(draw, model, full=False)
    names = [field.name for field in values.writable(model) if field.attname in fields]
    deferred = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    loading = draw(st.sampled_from(["all", "defer", "only"]))
    flags: dict[str, Any] = draw(
        st.sampled_from([{}, {}, {"update_fields": names}, {"update_fields": []}, {"force_update": True}])
    )

    def write() -> None:
        rows = models.QuerySet(model)
        obj = {"all": rows, "defer": rows.defer(*deferred), "only": rows.only("pk", *deferred)}[loading].get(pk=key)
        for name, value in fields.items():
            setattr(obj, name, value)
        obj.save(**flags)
        obj.save()

    return write


def save_expression(draw: Any) -> Write:
    model = draw_model(draw)
    key, updates = values.draw_key(draw, model), values.draw_updates(draw, model)
    if key is None or not updates:
        return nothing
    only = draw(st.sampled_from([{}, {"update_fields": list(updates)}]))

    def write() -> None:
        obj = models.QuerySet(model).get(pk=key)
        for field in model._meta.concrete_fields:
            if field.name in updates:
                setattr(obj, field.attname, updates[field.name])
        obj.save(**only)

    return write


def draw_queryset(draw: Any, model: type[models.Model]) -> Callable[[], Any]:
    """Draw a queryset: all rows, some by key, or those that a condition or a join picks."""
    chosen = values.draw_keys(draw, model)
    names = [field.name for field in values.writable(model)]
    name = draw(st.sampled_from(names)) if names else "pk"
    return draw(
        st.sampled_from(
            [
                lambda: models.QuerySet(model),
                lambda: models.QuerySet(model).filter(pk__in=chosen),
                lambda: models.QuerySet(model).exclude(pk__in=chosen).order_by("-pk"),
                lambda: models.QuerySet(model).filter(Q(pk__in=chosen) | Q(**{f"{name}__isnull": True})),
                lambda: models.QuerySet(model).filter(pk__in=models.QuerySet(model).filter(pk__in=chosen).values("pk")),
                lambda: models.QuerySet(model).none(),
            ]
        )
    )


def update(draw: Any) -> Write:
    model = draw_model(draw)
    queryset, updates = draw_queryset(draw, model), values.draw_updates(draw, model)
    return (lambda: queryset().update(**updates)) if updates else nothing


def update_by_join(draw: Any) -> Write:
    name = draw(st.sampled_from(["a", "b"]))
    return draw(
        st.sampled_from(
            [
                lambda: Product.objects.filter(category__name=name).update(stock=F("stock") + 1),
                lambda: Product.objects.filter(tags__name=name).update(name="tagged"),
                lambda: Thing.objects.filter(shelf__room__code=name).update(lender=None),
                lambda: Place.objects.filter(restaurant__stars__gt=0).update(name="starred"),
                lambda: Restaurant.objects.filter(name=name).update(name="b", stars=F("stars") + 1),
                lambda: Pizzeria.objects.filter(tags__name=name).update(name="c", stars=3, oven="gas"),
                lambda: Place.objects.annotate(n=models.Count("tags")).filter(n=1).update(name="n1"),
                lambda: Kiosk.objects.filter(name=name).update(name="d", goods="news"),
            ]
        )
    )


def unique_sets(model: type[models.Model]) -> list[list[str]]:
    """Return what ON CONFLICT may name."""
    found = [[field.name] for field in model._meta.concrete_fields if field.unique and not field.primary_key]
    found += [list(constraint.fields) for constraint in model._meta.total_unique_constraints]
    if not (model._meta.pk is None or isinstance(model._meta.pk, (models.AutoField, models.CompositePrimaryKey))):
        found.append([model._meta.pk.name])
    return found


def bulk_create(draw: Any) -> Write:
    model = draw(st.sampled_from([model for model in MODELS if not model._meta.parents]))
    given = draw(st.lists(st.just(None), max_size=3))
    fields = [values.draw_values(draw, model, full=True) for _ in given]
    if draw(st.booleans()):
        for one in fields:
            one |= {} if (key := values.draw_key(draw, model)) is None else {"pk": key}
    options: dict[str, Any] = {"batch_size": draw(st.sampled_from([None, 1, 2]))}
    mode = draw(st.sampled_from(["plain", "ignore", "update"]))
    if mode == "ignore":
        options["ignore_conflicts"] = True
    elif mode == "update":
        unique = draw(st.sampled_from(unique_sets(model) or [["pk"]]))
        names = [field.name for field in values.writable(model) if field.name not in unique and not field.unique]
        if not names:
            return nothing
        updated = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        options |= {"update_conflicts": True, "update_fields": updated}
        if connection.features.supports_update_conflicts_with_target:
            options["unique_fields"] = unique
    return lambda: models.QuerySet(model).bulk_create([model(**one) for one in fields], **options)


def bulk_update(draw: Any) -> Write:
    model = draw_model(draw)
    chosen = values.draw_keys(draw, model)
    updates = [values.draw_updates(draw, model) for _ in chosen]
    names = sorted({name for one in updates for name in one})
    size = draw(st.sampled_from([None, 1]))
    if not names:
        return nothing

    def write() -> None:
        objs = list(models.QuerySet(model).filter(pk__in=chosen).order_by("pk"))
        for obj, one in zip(objs, updates, strict=True):
            for name, value in one.items():
                setattr(obj, model._meta.get_field(name).attname, value)
        models.QuerySet(model).bulk_update(objs, names, batch_size=size)

    return write


# Nothing refers to their rows, so that deleting them past the collector leaves nothing dangling.
LEAVES = [Country, Entry, Note, Picture]


def delete(draw: Any) -> Write:
    model = draw_model(draw)
    key = values.draw_key(draw, model)
    queryset = draw_queryset(draw, model)
    way = draw(st.sampled_from(["instance", "queryset", "unread", "raw"]))
    if key is None:
        return nothing
    if way == "instance":
        return lambda: models.QuerySet(model).get(pk=key).delete()
    if way == "unread":
        return lambda: model(pk=key).delete()
    if way == "raw" and model in LEAVES:
        return lambda: queryset()._raw_delete(queryset().db)
    return lambda: queryset().delete()


def draw_fixture(draw: Any, model: type[models.Model]) -> dict[str, Any]:
    fields = {
        field.name: draw_plain(draw, field)
        for field in model._meta.local_concrete_fields
        if field in values.writable(model) and field not in model._meta.pk_fields
    }
    for field in model._meta.local_many_to_many:
        if field.remote_field.through._meta.auto_created:
            fields[field.name] = values.draw_keys(draw, field.related_model)
    return fields


def draw_plain(draw: Any, field: Any) -> Any:
    value = values.draw_value(draw, field)
    return value.hex() if isinstance(value, bytes) and not value else None if isinstance(value, bytes) else value


def fixture(draw: Any) -> Write:
    """Load a row as ``loaddata`` does: each table by itself, past ``save``."""
    model = draw(st.sampled_from([model for model in MODELS if len(model._meta.pk_fields) == 1]))
    parents = model._meta.get_parent_list()
    key = values.draw_key(draw, parents[-1] if parents and model is not Kiosk else model)
    if key is None and model._meta.pk is not None and not isinstance(model._meta.pk, models.AutoField):
        key = values.draw_value(draw, model._meta.pk) if not parents else None
    if parents and (key is None or model is Kiosk or values.has_sibling(model, parents[-1], key)):
        return nothing
    entry = {"model": model._meta.label_lower, "pk": key, "fields": draw_fixture(draw, model)}
    return lambda: [item.save() for item in serializers.deserialize("python", [entry])]


MEMBERS = [
    (Product, "tags", Tag),
    (Tag, "products", Product),
    (CheapProduct, "tags", Tag),
    (Person, "friends", Person),
    (Person, "follows", Person),
    (Person, "followers", Person),
    (Place, "tags", Tag),
    (Restaurant, "tags", Tag),
    (Pizzeria, "tags", Tag),
    (Kiosk, "tags", Tag),
    (Tag, "places", Place),
    (Thing, "shelves", Shelf),
    (Shelf, "reserved", Thing),
    (Thing, "papers", None),
]


def change_members(draw: Any) -> Write:
    model, name, _ = draw(st.sampled_from(MEMBERS))
    target = getattr(model, name).field.related_model
    target = getattr(model, name).field.model if getattr(model, name).reverse else target
    key, chosen = values.draw_key(draw, model), values.draw_keys(draw, target)
    way = draw(st.sampled_from(["add", "add", "remove", "set", "reset", "clear", "create"]))
    as_text = draw(st.booleans())
    if key is None:
        return nothing
    given = [str(one) for one in chosen] if as_text else chosen
    fields = values.draw_values(draw, target, full=True) if way == "create" else {}

    def write() -> None:
        manager = getattr(models.QuerySet(model).get(pk=key), name)
        calls: dict[str, Write] = {
            "add": lambda: manager.add(*given),
            "remove": lambda: manager.remove(*given),
            "set": lambda: manager.set(given),
            "reset": lambda: manager.set(given, clear=True),
            "clear": lambda: manager.clear(),
            "create": lambda: manager.create(**fields),
        }
        calls[way]()

    return write


THROUGHS = [
    Product.tags.through,
    Person.friends.through,
    Person.follows.through,
    Place.tags.through,
    Thing.shelves.through,
    Thing.papers.through,
]


def write_pairs(draw: Any) -> Write:
    """Write the rows of an automatic through model themselves."""
    through: Any = draw(st.sampled_from(THROUGHS))
    links = [field for field in through._meta.concrete_fields if isinstance(field, models.ForeignKey)]
    pairs = [{link.attname: values.draw_key(draw, link.related_model) for link in links} for _ in range(2)]
    if any(None in pair.values() for pair in pairs):
        return nothing
    first, second = pairs
    rows = models.QuerySet(through)
    ways: list[Write] = [
        lambda: through(**first).save(),
        lambda: rows.create(**first),
        lambda: rows.get_or_create(**first),
        lambda: rows.bulk_create([through(**first), through(**second)], ignore_conflicts=True),
        lambda: rows.bulk_create([through(**first)]),
        lambda: rows.filter(**first).update(**second),
        lambda: rows.filter(**first).delete(),
        lambda: [row.delete() for row in rows.filter(**first)],
        lambda: rows.all().delete(),
        lambda: [_moved(row, second).save() for row in rows.filter(**first)],
    ]
    return draw(st.sampled_from(ways))


def _moved(row: Any, link: dict[str, Any]) -> Any:
    for name, value in link.items():
        setattr(row, name, value)
    return row


REVERSE = [
    (Category, "products", Product),
    (Category, "children", Category),
    (Product, "pictures", Picture),
    (Shelf, "things", Thing),
    (Shelf, "lent", Thing),
    (Person, "things", Thing),
    (Thing, "parts", Thing),
    (Room, "shelves", Shelf),
    (Shelf, "entry_set", Entry),
    (Product, "notes", Note),
]


def relate(draw: Any) -> Write:
    """Write through the managers of reverse foreign keys and of generic relations."""
    model, name, target = draw(st.sampled_from(REVERSE))
    key, chosen = values.draw_key(draw, model), values.draw_keys(draw, target)
    way = draw(st.sampled_from(["add", "add slowly", "remove", "clear", "set", "create"]))
    if key is None:
        return nothing
    fields = values.draw_values(draw, target, full=True)
    back = [field.attname for field in target._meta.concrete_fields if field.related_model is model]
    own = {name: value for name, value in fields.items() if name not in (*back, "content_type_id", "object_id")}

    def write() -> None:
        manager = getattr(models.QuerySet(model).get(pk=key), name)
        objs = list(models.QuerySet(target).filter(pk__in=chosen))
        calls: dict[str, Write] = {
            "add": lambda: manager.add(*objs),
            "add slowly": lambda: manager.add(*objs, bulk=False),
            "remove": lambda: manager.remove(*objs) if hasattr(manager, "remove") else None,
            "clear": lambda: manager.clear() if hasattr(manager, "clear") else None,
            "set": lambda: manager.set(objs),
            "create": lambda: manager.create(**own),
        }
        calls[way]()

    return write


def extend(draw: Any) -> Write:
    """Make a parent's row a child's, delete a child's row and keep its parent's, or save the parent of a child."""
    child = draw(st.sampled_from([Restaurant, Pizzeria, Kiosk]))
    parent = child.__bases__[0]
    key, own = values.draw_key(draw, parent), values.draw_key(draw, child)
    fields = values.draw_values(draw, child, full=True)
    link = child._meta.get_ancestor_link(parent).attname
    ways: list[Write] = [nothing]
    if key is not None and not values.has_sibling(child, Place, key):
        ways.append(lambda: child(**(fields | {link: key})).save())
        ways.append(lambda: child(**{link: key}).save_base(raw=True))
        ways.append(lambda: parent(pk=key, name="parent").save(update_fields=["name"]))
    if own is not None:
        ways.append(lambda: models.QuerySet(child).get(pk=own).delete(keep_parents=True))
    return draw(st.sampled_from(ways))


def tag_about(draw: Any) -> Write:
    """Write a note about a product."""
    key = values.draw_key(draw, Product)
    kind = partial(ContentType.objects.get_for_model, Product)
    return nothing if key is None else lambda: Note(text="n", content_type=kind(), object_id=key).save()


def break_a_rule(draw: Any) -> Write:
    """Write what the database refuses, after something that it takes."""
    name = draw(st.sampled_from(["a", "b"]))
    return draw(
        st.sampled_from(
            [
                lambda: Product(name=None).save(),
                lambda: [Tag(name=name).save(), Tag(name=None).save()],
                lambda: Category.objects.bulk_create([Category(name=name), Category(name=None)]),
                lambda: Product.objects.update(stock=5, name=None),
                lambda: Room.objects.update(code="same", floor=1, number=1),
                lambda: Country.objects.update(name=None),
                lambda: Country(code="zz", name=None).save(),
                lambda: [Place(name=name).save(), Restaurant(name=name, stars=None).save()],
                lambda: [Person(name=name).save(), Person.objects.create(name=None)],
            ]
        )
    )


WRITES: list[Callable[[Any], Write]] = [
    create,
    create,
    create,
    save_by_hand,
    save,
    save_expression,
    update,
    update_by_join,
    bulk_create,
    bulk_create,
    bulk_update,
    delete,
    fixture,
    change_members,
    change_members,
    write_pairs,
    relate,
    extend,
    tag_about,
    break_a_rule,
]
