"""Models of every shape the trail has to follow."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import F
from django.db.models.functions import Upper
from model_utils import FieldTracker
from model_utils.models import SoftDeletableModel, TimeStampedModel


class Category(models.Model):
    name = models.CharField(max_length=50)
    parent = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="children")

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Note(models.Model):
    text = models.CharField(max_length=100)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    about = GenericForeignKey()

    def __str__(self) -> str:
        return self.text


class Product(models.Model):
    name = models.CharField(max_length=50)
    slug = models.SlugField(unique=True, null=True, blank=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    weight = models.FloatField(null=True, blank=True)
    stock = models.IntegerField(default=0)
    is_active = models.BooleanField(default=True)
    attributes = models.JSONField(default=dict, blank=True)
    released = models.DateField(null=True, blank=True)
    modified = models.DateTimeField(auto_now=True)
    photo = models.FileField(upload_to="photos", blank=True)
    blob = models.BinaryField(null=True, blank=True)
    api_token = models.CharField(max_length=50, blank=True)
    category = models.ForeignKey(Category, models.SET_NULL, null=True, blank=True, related_name="products")
    tags = models.ManyToManyField(Tag, blank=True, related_name="products")
    notes = GenericRelation(Note)

    def __str__(self) -> str:
        return self.name


class CheapProduct(Product):
    class Meta:
        proxy = True


class Picture(models.Model):
    product = models.ForeignKey(Product, models.CASCADE, related_name="pictures")
    file = models.FileField(upload_to="pictures")

    def __str__(self) -> str:
        return self.file.name or ""


class Person(models.Model):
    name = models.CharField(max_length=50)
    friends = models.ManyToManyField("self", blank=True)
    follows = models.ManyToManyField("self", blank=True, symmetrical=False, related_name="followers")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class Team(models.Model):
    name = models.CharField(max_length=50)
    members = models.ManyToManyField(Person, through="Seat", related_name="teams")

    def __str__(self) -> str:
        return self.name


class Seat(models.Model):
    team = models.ForeignKey(Team, models.CASCADE)
    person = models.ForeignKey(Person, models.CASCADE)
    role = models.CharField(max_length=20, default="player")

    def __str__(self) -> str:
        return self.role


class Place(models.Model):
    name = models.CharField(max_length=50)
    tags = models.ManyToManyField(Tag, blank=True, related_name="places")

    def __str__(self) -> str:
        return self.name


class Restaurant(Place):
    stars = models.IntegerField(default=0)


class Pizzeria(Restaurant):
    oven = models.CharField(max_length=20, default="wood")


class Document(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    title = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.title


class Country(models.Model):
    code = models.CharField(max_length=300, primary_key=True)
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Line(models.Model):
    pk = models.CompositePrimaryKey("order", "number")
    order = models.IntegerField()
    number = models.IntegerField()
    text = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.text


class Box(models.Model):
    width = models.IntegerField(default=1)
    height = models.IntegerField(default=1)
    area = models.GeneratedField(
        expression=F("width") * F("height"), output_field=models.IntegerField(), db_persist=True
    )
    label = models.CharField(max_length=20, db_default="box")
    code = models.GeneratedField(
        expression=Upper("label"), output_field=models.CharField(max_length=20), db_persist=True
    )

    def __str__(self) -> str:
        return f"{self.pk}"


class Tracked(models.Model):
    name = models.CharField(max_length=50)
    count = models.IntegerField(default=0)
    tracker = FieldTracker()

    def __str__(self) -> str:
        return self.name


class SoftDeleted(SoftDeletableModel):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class VisibleManager(models.Manager["Hidden"]):
    def get_queryset(self) -> models.QuerySet[Hidden]:
        return super().get_queryset().filter(is_hidden=False)


class Hidden(models.Model):
    name = models.CharField(max_length=50)
    is_hidden = models.BooleanField(default=True)

    objects = VisibleManager()

    class Meta:
        base_manager_name = "objects"

    def __str__(self) -> str:
        return self.name


class Broken(models.Model):
    """A model whose text cannot be had."""

    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        msg = "no text"
        raise RuntimeError(msg)


class Upside(models.CharField):
    """A field that stores its text in upper case: nothing in Python tells what the row holds."""

    def get_prep_value(self, value):
        value = super().get_prep_value(value)
        return value.upper() if isinstance(value, str) else value


class Shouting(models.Model):
    text = Upside(max_length=50)

    def __str__(self) -> str:
        return self.text


class Unaudited(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Room(models.Model):
    """A row that may be in the way of another for three reasons."""

    code = models.CharField(max_length=20, unique=True)
    floor = models.IntegerField(default=0)
    number = models.IntegerField(default=0)
    name = models.CharField(max_length=50, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["floor", "number"], name="app_room_door")]

    def __str__(self) -> str:
        return self.code


class Shelf(models.Model):
    code = models.CharField(max_length=20, primary_key=True)
    room = models.ForeignKey(Room, models.SET_NULL, to_field="code", null=True, blank=True, related_name="shelves")

    def __str__(self) -> str:
        return self.code


def lost_and_found() -> Shelf:
    """Return where things go whose lender is gone; it is made when it is needed first."""
    return Shelf.objects.get_or_create(code="lost")[0]


class Thing(models.Model):
    """What happens to it when another row goes: every kind of ``on_delete``, and members with text and UUID keys."""

    name = models.CharField(max_length=50)
    shelf = models.ForeignKey(Shelf, models.SET_DEFAULT, default="attic", related_name="things")
    lender = models.ForeignKey(Shelf, models.SET(lost_and_found), null=True, blank=True, related_name="lent")
    keeper = models.ForeignKey(Person, models.PROTECT, null=True, blank=True, related_name="things")
    part_of = models.ForeignKey("self", models.RESTRICT, null=True, blank=True, related_name="parts")
    twin = models.OneToOneField("self", models.CASCADE, null=True, blank=True, related_name="other_twin")
    shelves = models.ManyToManyField(Shelf, blank=True, related_name="reserved")
    papers = models.ManyToManyField(Document, blank=True, related_name="things")

    def __str__(self) -> str:
        return self.name


class Entry(models.Model):
    """A composite key with a foreign key in it."""

    pk = models.CompositePrimaryKey("shelf", "number")
    shelf = models.ForeignKey(Shelf, models.CASCADE)
    number = models.IntegerField()
    text = models.CharField(max_length=50, blank=True)

    def __str__(self) -> str:
        return self.text


class Venue(models.Model):
    venue_id = models.BigAutoField(primary_key=True)
    seats = models.IntegerField(default=0)
    labels = models.ManyToManyField(Tag, blank=True, related_name="venues")

    def __str__(self) -> str:
        return f"{self.seats}"


class Club(Place, Venue):
    """A child of two parents, whose keys differ."""

    is_open = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.name


class Kiosk(Place):
    """A child with a key of its own."""

    number = models.BigAutoField(primary_key=True)
    place = models.OneToOneField(Place, models.CASCADE, parent_link=True)
    goods = models.CharField(max_length=50, blank=True)


class Volume(models.Model):
    code = models.CharField(max_length=20, primary_key=True)
    title = models.CharField(max_length=50, blank=True)

    def __str__(self) -> str:
        return self.code


class Atlas(Volume):
    """A child whose parent's key is a text."""

    scale = models.IntegerField(default=1)


class Stamped(TimeStampedModel):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Cellar(models.Model):
    """Its members are of a model whose manager hides some."""

    hidden = models.ManyToManyField(Hidden, blank=True)

    def __str__(self) -> str:
        return f"{self.pk}"


def priorities() -> list[tuple[int, str]]:
    return [(1, "Low"), (2, "High")]


class Ticket(models.Model):
    """Its fields have choices of every kind."""

    class Status(models.TextChoices):
        NEW = "new", "Just arrived"
        DONE = "done", "Finished"

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.NEW)
    priority = models.IntegerField(choices=priorities, default=1)
    kind = models.CharField(max_length=10, blank=True, choices=[("Bugs", [("crash", "Crash"), ("typo", "Typo")])])
    result = models.CharField(max_length=10, null=True, choices={"ok": "Fine", "bad": "Broken"})

    def __str__(self) -> str:
        return self.status
