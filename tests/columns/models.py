"""Models whose columns hold something else than their objects, and tables that Django did not make."""

from __future__ import annotations

import enum
import json
from decimal import Decimal

from django.db import connection, models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Color(enum.Enum):
    RED = 1
    GREEN = 2

    def __str__(self) -> str:
        return str({1: _("Yes"), 2: _("No")}[self.value])


class ColorField(models.IntegerField):
    """Objects have a member of an enum whose text depends on the language; the column has its number."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else Color(value)

    def to_python(self, value):
        return value if value is None or isinstance(value, Color) else Color(int(value))

    def get_prep_value(self, value):
        return value.value if isinstance(value, Color) else super().get_prep_value(value)


class ByNameField(models.CharField):
    """Objects have a member, the column its name; only members are taken."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else Color[value]

    def to_python(self, value):
        if value is not None and not isinstance(value, Color):
            msg = "a Color is needed"
            raise ValueError(msg)
        return value

    def get_prep_value(self, value):
        return None if value is None else value.name


class CentsField(models.IntegerField):
    """Objects have euros, the column cents: the one must never pass for the other."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else Decimal(value) / 100

    def to_python(self, value):
        return None if value is None else Decimal(value)

    def get_prep_value(self, value):
        return None if value is None else int(Decimal(value) * 100)


class Text(models.TextChoices):
    DRAFT = "d", _("Yes")
    DONE = "f", _("No")


class TextField(models.CharField):
    """Objects have the translated label."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else Text(value).label

    def to_python(self, value):
        return value

    def get_prep_value(self, value):
        return next((one.value for one in Text if str(one.label) == str(value)), value)


class Painted(models.Model):
    name = models.CharField(max_length=20)
    color = ColorField(null=True, blank=True)
    by_name = ByNameField(max_length=20, null=True, blank=True)
    price = CentsField(null=True, blank=True)
    label = TextField(max_length=20, null=True, blank=True)
    choice = models.CharField(max_length=20, choices=Text.choices, default=Text.DRAFT)

    def __str__(self) -> str:
        return f"{self.name} for {self.price}"


class Money:
    def __init__(self, amount: str) -> None:
        self.amount = amount


class MoneyDecoder(json.JSONDecoder):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, parse_float=Decimal, object_hook=self._hook, **kwargs)

    @staticmethod
    def _hook(document):
        return Money(document["money"]) if "money" in document else document


class MoneyEncoder(json.JSONEncoder):
    def default(self, o):
        return {"money": o.amount} if isinstance(o, Money) else super().default(o)


class Documented(models.Model):
    decoded = models.JSONField(decoder=MoneyDecoder, null=True)
    encoded = models.JSONField(encoder=MoneyEncoder, null=True)
    both = models.JSONField(encoder=MoneyEncoder, decoder=MoneyDecoder, null=True)

    def __str__(self) -> str:
        return "documented"


if connection.vendor == "postgresql":
    from django.contrib.postgres.fields import (
        ArrayField,
        DateRangeField,
        DateTimeRangeField,
        DecimalRangeField,
        IntegerRangeField,
    )

    class Listed(models.Model):
        colors = ArrayField(ColorField(), default=list)
        nested = ArrayField(ArrayField(ColorField()), default=list)
        documents = ArrayField(models.JSONField(decoder=MoneyDecoder), default=list)

        def __str__(self) -> str:
            return "listed"

    class Spans(models.Model):
        """Ranges, which a form has as two values."""

        numbers = IntegerRangeField(null=True)
        prices = DecimalRangeField(null=True)
        days = DateRangeField(null=True)
        moments = DateTimeRangeField(null=True)

        def __str__(self) -> str:
            return "spans"


class Shouted:
    """A descriptor for a column, as packages for translations, currencies and trackers put them on a class."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance, owner=None):
        return self if instance is None else instance.__dict__[self.name].upper()

    def __set__(self, instance, value):
        instance.__dict__[self.name] = value


class Elsewhere:
    """A descriptor that keeps the value of a column out of ``__dict__``."""

    def __get__(self, instance, owner=None):
        return self if instance is None else instance.__dict__.get("_elsewhere", "")

    def __set__(self, instance, value):
        instance.__dict__["_elsewhere"] = value


class Described(models.Model):
    name = models.CharField(max_length=20)
    plain = models.CharField(max_length=20, blank=True)
    other = models.CharField(max_length=20, blank=True)

    def __str__(self) -> str:
        return self.plain


Described.name = Shouted("name")
Described.other = Elsewhere()


class QuietDescribed(Described):
    class Meta:
        proxy = True


class LoudPlain(Described):
    """A proxy that has a descriptor which its concrete model has not."""

    class Meta:
        proxy = True


LoudPlain.plain = Shouted("plain")


class Narrow(models.Model):
    """A table that Django did not make: each column holds less than its field."""

    code = models.CharField(max_length=20)
    padded = models.CharField(max_length=20)
    seen = models.DateTimeField(null=True)
    ratio = models.FloatField(null=True)
    price = models.DecimalField(max_digits=10, decimal_places=4, null=True)
    stamp = models.CharField(max_length=20, default="given")

    class Meta:
        managed = False
        db_table = "columns_narrow"

    def __str__(self) -> str:
        return "narrow"


class Altered(models.Model):
    """A table that Django made, and somebody alters."""

    code = models.CharField(max_length=20)
    seen = models.DateTimeField(null=True)
    price = models.DecimalField(max_digits=10, decimal_places=4, null=True)

    def __str__(self) -> str:
        return "altered"


class SlugField(models.CharField):
    """A field that makes its own value when it is saved, and does not tell the object."""

    def pre_save(self, model_instance, add):
        return model_instance.title.lower().replace(" ", "-")


class RoundField(models.FloatField):
    def get_prep_value(self, value):
        return None if value is None else round(super().get_prep_value(value), 1)


class RealField(models.FloatField):
    def db_type(self, connection):
        return {"postgresql": "real", "mysql": "float"}.get(connection.vendor, "real")


class Custom(models.Model):
    title = models.CharField(max_length=50)
    slug = SlugField(max_length=50, default="")
    rounded = RoundField(default=0)
    real = RealField(default=0)
    given = models.CharField(max_length=20, db_default="from the database")

    def __str__(self) -> str:
        return self.title


class LowerField(models.CharField):
    """The column has lower case, whatever objects have."""

    def get_prep_value(self, value):
        value = super().get_prep_value(value)
        return value.lower() if isinstance(value, str) else value


class Weighed(models.Model):
    weight = models.DecimalField(max_digits=8, decimal_places=2, primary_key=True)
    name = models.CharField(max_length=50, blank=True)

    def __str__(self) -> str:
        return f"weighed {self.name}"


class Dated(models.Model):
    day = models.DateField(primary_key=True)
    name = models.CharField(max_length=50, blank=True)

    def __str__(self):
        return f"dated {self.name}"


class Timed(models.Model):
    moment = models.DateTimeField(primary_key=True)
    name = models.CharField(max_length=50, blank=True)

    def __str__(self):
        return f"timed {self.name}"


class Hourly(models.Model):
    hour = models.TimeField(primary_key=True)
    name = models.CharField(max_length=50, blank=True)

    def __str__(self):
        return f"hourly {self.name}"


class Attached(models.Model):
    """Its key is that of the row it belongs to."""

    coded = models.OneToOneField("Coded", models.CASCADE, primary_key=True)
    name = models.CharField(max_length=50, blank=True)

    def __str__(self):
        return f"attached {self.name}"


class Numbered(models.Model):
    pk = models.CompositePrimaryKey("coded_id", "day")
    coded = models.ForeignKey("Coded", models.CASCADE)
    day = models.DateField()
    name = models.CharField(max_length=50, blank=True)

    def __str__(self):
        return f"numbered {self.name}"


class Coded(models.Model):
    code = LowerField(max_length=20, primary_key=True)
    name = models.CharField(max_length=50, blank=True)

    def __str__(self) -> str:
        return f"coded {self.name}"


class Painting(models.Model):
    color = ColorField(primary_key=True)
    name = models.CharField(max_length=50, blank=True)
    tags = models.ManyToManyField("app.Tag", related_name="paintings")

    def __str__(self) -> str:
        return f"painting {self.name}"


class Gallery(models.Model):
    """Its members have keys without an order."""

    paintings = models.ManyToManyField(Painting, related_name="galleries")

    def __str__(self) -> str:
        return "gallery"


class TouchingQuerySet(models.QuerySet):
    def _update(self, values, *args):
        field = self.model._meta.get_field("touched")
        if not any(one is field for one, *_ in values):
            values = [*values, (field, None, "by the manager")]
        return super()._update(values, *args)


class Touched(models.Model):
    """Its base manager writes more than it is asked to."""

    name = models.CharField(max_length=20)
    touched = models.CharField(max_length=20, default="")

    objects = TouchingQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"

    def __str__(self) -> str:
        return self.name


class TouchingItself(models.Model):
    """Its ``_do_update`` writes more than it is asked to."""

    name = models.CharField(max_length=20)
    touched = models.CharField(max_length=20, default="")

    def __str__(self) -> str:
        return self.name

    def _do_update(self, base_qs, using, pk_val, values, *args, **kwargs):
        field = self._meta.get_field("touched")
        values = [item for item in values if item[0] is not field]
        return super()._do_update(base_qs, using, pk_val, [*values, (field, None, "by itself")], *args, **kwargs)


class TouchingLater(models.Model):
    """Its ``save`` updates a further column by a statement of its own."""

    name = models.CharField(max_length=20)
    touched = models.CharField(max_length=20, default="")
    at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name

    def save(self, *args, **kwargs):
        super().save(*args, **kwargs)
        type(self).objects.filter(pk=self.pk).update(touched="later", at=timezone.now())


class Unmanaged(models.Model):
    """A partitioned table, or a view, as the test makes it."""

    number = models.IntegerField(unique=True)
    name = models.CharField(max_length=20)
    total = models.IntegerField(default=0)

    class Meta:
        managed = False
        db_table = "columns_unmanaged"

    def __str__(self) -> str:
        return self.name


class City(models.Model):
    name = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.name


class House(models.Model):
    name = models.CharField(max_length=20)
    city = models.ForeignKey(City, models.CASCADE)

    def __str__(self) -> str:
        return f"{self.name}, {self.city}"


class Flat(models.Model):
    """Its text follows two foreign keys, one after the other."""

    number = models.IntegerField()
    size = models.IntegerField(default=0)
    house = models.ForeignKey(House, models.CASCADE, null=True)
    tags = models.ManyToManyField("app.Tag", related_name="flats")

    def __str__(self) -> str:
        return f"{self.number} in {self.house}"


def always(change) -> bool:
    return True


class Hostile(models.Model):
    """A table into which somebody else writes what no Python value can hold."""

    name = models.CharField(max_length=50)
    code = models.CharField(max_length=10, null=True, unique=True)
    day = models.DateField(null=True)
    seen = models.DateTimeField(null=True)
    hour = models.TimeField(null=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    ref = models.UUIDField(null=True)


class FormattedField(models.CharField):
    """A SELECT gives something else than the column, as with GeoDjango's fields."""

    def select_format(self, compiler, sql, params):
        return f"replace('<shape>', 'shape', {sql})", params


class Formatted(models.Model):
    name = models.CharField(max_length=20, unique=True)
    shape = FormattedField(max_length=20)

    def __str__(self) -> str:
        return self.name


class Every(models.Model):
    """A column of every class of field that Django writes as it is given."""

    small = models.SmallIntegerField(default=0)
    number = models.IntegerField(null=True)
    big = models.BigIntegerField(null=True)
    positive = models.PositiveIntegerField(null=True)
    flag = models.BooleanField(null=True)
    name = models.CharField(max_length=200, blank=True)
    text = models.TextField(null=True)
    slug = models.SlugField(unique=True, null=True)
    price = models.DecimalField(max_digits=20, decimal_places=4, null=True)
    ratio = models.FloatField(null=True)
    day = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    hour = models.TimeField(null=True)
    span = models.DurationField(null=True)
    ref = models.UUIDField(null=True)
    document = models.JSONField(null=True)
    data = models.BinaryField(null=True)
    file = models.FileField(null=True)
    address = models.GenericIPAddressField(null=True)
    city = models.ForeignKey(City, models.SET_NULL, null=True)

    def __str__(self) -> str:
        return self.name or "nameless"


class Precise(models.Model):
    """More digits than the decimal context of Python has at first."""

    amount = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    ratio = models.DecimalField(max_digits=12, decimal_places=4, null=True)

    def __str__(self) -> str:
        return f"precise {self.pk}"


class Measured(models.Model):
    """A moment is the key, as in tables of measurements."""

    at = models.DateTimeField(primary_key=True)
    seen = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return "timed"


class Wide(models.Model):
    """More columns than a function of PostgreSQL takes arguments."""

    for _at in range(120):
        locals()[f"c{_at}"] = models.IntegerField(null=True)
    del _at

    def __str__(self) -> str:
        return "wide"


class OddlyNamed(models.Model):
    """Columns with the names that statements give to what they make."""

    key = models.BigAutoField(primary_key=True)
    o0 = models.IntegerField(null=True)
    n0 = models.IntegerField(null=True)
    r0 = models.IntegerField(null=True)
    at = models.DateTimeField(null=True)
    uid = models.CharField(max_length=20, default="")
    changes = models.CharField(max_length=20, default="")
    q = models.CharField(max_length=20, default="")
    position = models.IntegerField(null=True, unique=True)

    def __str__(self) -> str:
        return "oddly named"


class NamedN(models.Model):
    """A table with such a name."""

    n = models.IntegerField(default=0)

    class Meta:
        db_table = "n"

    def __str__(self) -> str:
        return "n"


class NamedO(models.Model):
    """Another."""

    o = models.IntegerField(default=0)

    class Meta:
        db_table = "o"

    def __str__(self) -> str:
        return "o"


class Page(models.Model):
    title = models.CharField(max_length=20)
    visits = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.title


def _kind_of_page(number: int) -> type[Page]:
    return type(f"Page{number}", (Page,), {"__module__": __name__, "body": models.TextField(blank=True)})


# As a CMS has them.
KINDS_OF_PAGES = [_kind_of_page(number) for number in range(12)]


class Weighty(models.Model):
    """Rules may leave out what is long; a text may need anything."""

    name = models.CharField(max_length=20)
    other = models.CharField(max_length=20, default="other")
    number = models.IntegerField(default=0)
    scan = models.BinaryField(default=b"")

    @property
    def both(self) -> str:
        return f"{self.name} and {self.other}"

    def __str__(self) -> str:
        return self.name
