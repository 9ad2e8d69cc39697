"""Twenty years of a shop, each step through the same ORM calls and pages that a shop would use."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import time_machine
from django.contrib.auth.models import User
from django.db import transaction

from django_signal_audit import audit_context
from testproject.shop.models import Category, Product, ProductImage, Tag

from .charts import chart
from .people import People
from .prices import Month

# series: name, category, unit, tags
CATALOGUE = {
    "oil_brent": ("Brent crude oil", "Crude oil", "barrel", ["energy"]),
    "oil_dubai": ("Dubai crude oil", "Crude oil", "barrel", ["energy"]),
    "coffee_arabica": ("Arabica coffee", "Coffee", "kg", ["beverage"]),
    "coffee_robustas": ("Robusta coffee", "Coffee", "kg", ["beverage"]),
    "tea_columbo": ("Colombo tea", "Tea", "kg", ["beverage", "auction"]),
    "tea_kolkata": ("Kolkata tea", "Tea", "kg", ["beverage", "auction"]),
    "tea_mombasa": ("Mombasa tea", "Tea", "kg", ["beverage", "auction"]),
    "sugar_eu": ("European sugar", "Sugar", "kg", ["food"]),
    "sugar_us": ("American sugar", "Sugar", "kg", ["food"]),
    "sugar_world": ("World market sugar", "Sugar", "kg", ["food"]),
}
REPRICED = "Coffee"
DISCONTINUED = "sugar_eu"


def open_shop(months: list[Month], buyer: User) -> None:
    """Create the products at the prices of the first month, each with two pictures of the prices to come."""
    with time_machine.travel(months[0].start), audit_context(actor=buyer, reason="The shop opens"):
        for series in CATALOGUE:
            _add_images(_create_product(series, months[0]), [month.prices[series] for month in months])


def _create_product(series: str, month: Month) -> Product:
    name, category, unit, tags = CATALOGUE[series]
    product = Product.objects.create(
        sku=series.replace("_", "-"),
        name=name,
        description=f"{name} at its monthly price on the world's markets.",
        category=Category.objects.get_or_create(name=category)[0],
        price=month.prices[series],
        stock=1000,
        attributes={"series": series, "unit": unit},
    )
    product.tags.set([Tag.objects.get_or_create(name=tag)[0] for tag in tags])
    return product


def _add_images(product: Product, prices: list[Decimal]) -> None:
    for caption, shown in (("all years", prices), ("the last five years", prices[-60:])):
        file = chart(shown, f"{product.sku}.png")
        ProductImage.objects.create(product=product, file=file, caption=f"{product.name}, {caption}")


def live_through(months: Iterable[Month], people: People) -> None:
    """Save every product's price of every month, changed or not, and let somebody look at a product each month.

    The clock is set to each month in turn, so that events and mails have the dates they would have had.
    """
    for number, month in enumerate(months):
        with time_machine.travel(month.start):
            _live_through_month(number, month, people)


def _live_through_month(number: int, month: Month, people: People) -> None:
    # Loaded again each month: saving must not overwrite the views counted meanwhile.
    products = list(Product.objects.all())
    buyer = people.buyers[number % len(people.buyers)]
    # A price list is taken as a whole, or not at all.
    with audit_context(actor=buyer, reason=f"Market prices of {month.name}"), transaction.atomic():
        for product in products:
            product.price = month.prices[product.attributes["series"]]
            product.save()
    browser = people.browsers[number % len(people.browsers)]
    browser.get(products[number % len(products)].get_absolute_url())


def reprice(buyer: User) -> int:
    """Raise the prices of a category by five percent in one bulk call and return how many rows that were."""
    products = list(Product.objects.filter(category__name=REPRICED))
    for product in products:
        product.price = (product.price * Decimal("1.05")).quantize(Decimal("0.0001"))
    with audit_context(actor=buyer, reason=f"{REPRICED}: five percent up"):
        return Product.objects.bulk_update(products, ["price"])


def discontinue(buyer: User) -> None:
    """Delete a product; its images go with it, and the images' files."""
    with audit_context(actor=buyer, reason="No longer quoted"):
        Product.objects.get(attributes__series=DISCONTINUED).delete()
