"""Random writes by every path of the ORM, on few rows so that they meet."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import Error, connections, models, transaction
from django.db.models import F
from django.db.models.functions import Concat

from tests.app.models import Box, Category, Country, Line, Person, Picture, Place, Product, Restaurant, Tag

Step = Callable[["Writer"], Any]
STEPS: list[Step] = []

# Keys of the rows that everybody knows.
KNOWN = range(10001, 10006)
CODES = ("AT", "BE", "CH", "DE", "EE")


def step(function: Step) -> Step:
    """Add an operation to those that a writer chooses from."""
    STEPS.append(function)
    return function


class Undo(Exception):
    """Raised to have a transaction rolled back."""


def kind_of(error: Exception) -> str:
    """Return the kind of an error: its class, and the number or state that the database gives it."""
    cause: Any = error.__cause__
    # psycopg 2 calls it pgcode.
    detail = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if detail is None and isinstance(error, Error):
        detail = error.args[0] if error.args else ""
    return f"{type(error).__name__} {detail or ''}".strip()


# What an application retries: deadlocks, serialization failures and lock timeouts.
LOCKING = ("40P01", "40001", "55P03", "1213", "1205", "1020", "locked")


def is_locking(kind: str) -> bool:
    """Return whether an error is about locks."""
    return any(part in kind for part in LOCKING)


class Writer:
    """Writes at random, and counts what it did and what went wrong."""

    def __init__(self, seed: int, using: str = "default", *, retries: int = 0, steps: Iterable[Step] = STEPS) -> None:
        self.random = random.Random(seed)
        self.using = using
        self.retries = retries
        self.steps = list(steps)
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def write(self, seconds: float = float("inf"), count: float = float("inf")) -> dict[str, Any]:
        """Write for some time, or so many times, and report."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and count > 0:
            count -= 1
            self._one()
        return {"done": self.done, "errors": self.errors}

    def _one(self) -> None:
        chosen = self.random.choice(self.steps)
        state = self.random.getstate()
        for _ in range(self.retries + 1):
            self.random.setstate(state)
            try:
                chosen(self)
            except (Error, ObjectDoesNotExist, Undo) as error:
                kind = f"{chosen.__name__}: {kind_of(error)}"
                self.errors[kind] += 1
                if not is_locking(kind):
                    return
                time.sleep(self.random.random() / 100)
            else:
                self.done[chosen.__name__] += 1
                return

    # What the operations choose

    def rows(self, model: type[models.Model]) -> models.QuerySet[Any]:
        return model._default_manager.using(self.using)

    def keys(self, model: type[models.Model], at_most: int = 3) -> list[Any]:
        keys = list(self.rows(model).order_by("pk").values_list("pk", flat=True)[:40])
        return self.random.sample(keys, min(len(keys), self.random.randint(1, at_most)))

    def row(self, model: type[models.Model]) -> Any:
        keys = self.keys(model, 1)
        return self.rows(model).get(pk=keys[0]) if keys else self.made(model)

    def made(self, model: type[models.Model]) -> Any:
        return self.rows(model).create(**({} if model is Box else {"name": self.word()}))

    def word(self) -> str:
        return self.random.choice(("oak", "elm", "ash", "fir", "yew"))

    def number(self) -> int:
        return self.random.randint(0, 9)

    def slug(self) -> str | None:
        return self.random.choice((None, f"s{self.random.randint(1, 30)}"))


@step
def create(at: Writer) -> None:
    at.rows(Product).create(
        name=at.word(), stock=at.number(), slug=at.slug(), api_token=at.word(), attributes={"a": at.number()}
    )


@step
def create_others(at: Writer) -> None:
    at.made(at.random.choice((Category, Tag, Person, Box)))
    at.rows(Restaurant).create(name=at.word(), stars=at.number())
    at.rows(Picture).create(product=at.row(Product), file=f"{at.word()}.png")


@step
def save(at: Writer) -> None:
    product = at.row(Product)
    product.name, product.price, product.weight = at.word(), f"{at.number()}.5", at.random.random()
    product.category = at.row(Category)
    product.save()


@step
def save_with_key(at: Writer) -> None:
    Product(pk=at.random.choice(KNOWN), name=at.word(), stock=at.number()).save(using=at.using)
    Country(pk=at.random.choice(CODES), name=at.word()).save(using=at.using)


@step
def save_fields(at: Writer) -> None:
    product = at.row(Product)
    product.stock, product.name = at.number(), "not written"
    product.save(update_fields=["stock"])


@step
def save_deferred(at: Writer) -> None:
    product = at.rows(Product).only("name").get(pk=at.row(Product).pk)
    product.name = at.word()
    product.save()


@step
def save_expression(at: Writer) -> None:
    product = at.row(Product)
    product.stock = F("stock") + 1
    product.save(force_update=True)


@step
def save_others(at: Writer) -> None:
    box = at.row(Box)
    box.width = at.number()
    box.save()
    restaurant = at.row(Restaurant)
    restaurant.name, restaurant.stars = at.word(), at.number()
    restaurant.save()


@step
def update(at: Writer) -> None:
    at.rows(Product).filter(stock__lt=at.number()).update(price=at.number(), name=Concat("name", models.Value("")))


@step
def update_keys(at: Writer) -> None:
    at.rows(Product).filter(pk__in=at.keys(Product)).update(stock=F("stock") + 1)


@step
def update_others(at: Writer) -> None:
    at.rows(Box).filter(pk__in=at.keys(Box)).update(height=F("height") + 1)
    at.rows(Place).filter(pk__in=at.keys(Place)).update(name=at.word())
    at.rows(Restaurant).filter(stars__lt=at.number()).update(stars=F("stars") + 1)


@step
def get_or_create(at: Writer) -> None:
    at.rows(Country).get_or_create(code=at.random.choice(CODES), defaults={"name": at.word()})


@step
def update_or_create(at: Writer) -> None:
    at.rows(Country).update_or_create(code=at.random.choice(CODES), defaults={"name": at.word()})


@step
def bulk_create(at: Writer) -> None:
    at.rows(Product).bulk_create(
        [Product(name=at.word(), slug=at.slug(), stock=at.number()) for _ in range(3)], batch_size=2
    )
    at.rows(Box).bulk_create([Box(width=at.number()) for _ in range(2)])


@step
def insert_ignoring(at: Writer) -> None:
    countries = [Country(code=code, name=at.word()) for code in sorted(at.random.sample(CODES, 3))]
    at.rows(Country).bulk_create(countries, ignore_conflicts=True)


def upsert_options(using: str) -> dict[str, Any]:
    options = {"update_conflicts": True, "update_fields": ["name"]}
    if connections[using].features.supports_update_conflicts_with_target:
        options["unique_fields"] = ["code"]
    return options


@step
def upsert(at: Writer) -> None:
    countries = [Country(code=code, name=at.word()) for code in sorted(at.random.sample(CODES, 3))]
    at.rows(Country).bulk_create(countries, **upsert_options(at.using))


@step
def bulk_update(at: Writer) -> None:
    products = list(at.rows(Product).filter(pk__in=at.keys(Product)).order_by("pk"))
    for product in products:
        product.stock, product.is_active = at.number(), not product.is_active
    at.rows(Product).bulk_update(products, ["stock", "is_active"], batch_size=2)


@step
def composite(at: Writer) -> None:
    Line(order=1, number=at.number(), text=at.word()).save(using=at.using)
    at.rows(Line).filter(number=at.number()).update(text=at.word())
    at.rows(Line).filter(number=at.number()).delete()


@step
def delete(at: Writer) -> None:
    at.row(Product).delete()


@step
def delete_by_code(at: Writer) -> None:
    at.rows(Country).filter(code=at.random.choice(CODES)).delete()


@step
def delete_many(at: Writer) -> None:
    at.rows(Product).filter(pk__in=at.keys(Product, 5)).delete()
    at.rows(Picture).filter(pk__in=at.keys(Picture)).delete()


@step
def delete_to_null(at: Writer) -> None:
    at.row(Category).delete()


@step
def delete_others(at: Writer) -> None:
    at.row(at.random.choice((Tag, Person, Place, Box))).delete()


@step
def members_set(at: Writer) -> None:
    at.row(Product).tags.set(at.keys(Tag, 5))


@step
def members_add(at: Writer) -> None:
    at.row(Product).tags.add(*at.keys(Tag))


@step
def members_remove(at: Writer) -> None:
    at.row(Product).tags.remove(*at.keys(Tag))


@step
def members_clear(at: Writer) -> None:
    at.row(Product).tags.clear()


@step
def members_of_the_other_side(at: Writer) -> None:
    at.row(Tag).products.add(*at.keys(Product))
    at.row(Tag).products.clear()


@step
def members_symmetrical(at: Writer) -> None:
    at.row(Person).friends.add(*at.keys(Person))
    at.row(Person).friends.set(at.keys(Person))


@step
def rolled_back(at: Writer) -> None:
    with transaction.atomic(using=at.using):
        save(at)
        try:
            with transaction.atomic(using=at.using):
                members_add(at)
                bulk_create(at)
                delete(at)
                raise Undo
        except Undo:
            update_keys(at)


@step
def several(at: Writer) -> None:
    with transaction.atomic(using=at.using):
        for _ in range(3):
            at.random.choice((save, save_fields, bulk_update, members_add, update_others))(at)
