"""The rows that a life of the machine begins with: some of every shape, related to each other."""

from __future__ import annotations

from django.contrib.contenttypes.models import ContentType

from tests.app import models as app

from .values import UUIDS


def furnish() -> None:
    """Write them, the row that SET_DEFAULT needs among them."""
    parent = app.Category.objects.create(name="a")
    category = app.Category.objects.create(name="b", parent=parent)
    tags = app.Tag.objects.bulk_create([app.Tag(name="a"), app.Tag(name="b"), app.Tag(name="c")])
    tags = list(app.Tag.objects.order_by("pk")) if tags[0].pk is None else tags
    products = [
        app.Product.objects.create(name="a", slug="s1", price=1, category=category),
        app.CheapProduct.objects.create(name="b", weight=0.5, attributes={"a": [1.5]}),
    ]
    products[0].tags.set(tags[:2])
    tags[2].products.add(*products)
    app.Picture.objects.create(product=products[0], file="p.png")
    kind = ContentType.objects.get_for_model(app.Product)
    app.Note.objects.create(text="n", content_type=kind, object_id=products[0].pk)
    people = [app.Person.objects.create(name=name) for name in "ab"]
    people[0].friends.add(people[1])
    people[1].follows.add(*people)
    team = app.Team.objects.create(name="a")
    app.Seat.objects.create(team=team, person=people[0])
    for model in (app.Place, app.Restaurant, app.Pizzeria, app.Club, app.Kiosk):
        model.objects.create(name="a").tags.add(tags[0])
    app.Venue.objects.create(seats=1)
    papers = [app.Document.objects.create(id=UUIDS[number], title="a") for number in range(2)]
    app.Country.objects.create(code="a", name="a")
    app.Line.objects.create(order=1, number=1, text="a")
    app.Box.objects.create(width=2)
    app.Hidden.objects.create(name="a")
    room = app.Room.objects.create(code="a", floor=1, number=1)
    shelves = [app.Shelf.objects.create(code="attic"), app.Shelf.objects.create(code="a", room=room)]
    things = [app.Thing.objects.create(name="a", keeper=people[0], shelf=shelves[1], lender=shelves[1])]
    things.append(app.Thing.objects.create(name="b", part_of=things[0], twin=things[0]))
    things[0].shelves.set(shelves)
    things[0].papers.add(*papers)
    shelves[1].reserved.add(things[1])
    app.Entry.objects.create(shelf=shelves[1], number=1, text="a")
