"""Claims about setting a package up, and about what can be done with what is recorded."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from importlib import metadata
from typing import TYPE_CHECKING, Any

from .base import Package
from .trying import NO, YES, Verdict, holds, partly, product

if TYPE_CHECKING:
    from django.test import Client

NINE = Decimal("9.00")
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def settings_only(one: Package) -> Verdict:
    return holds(type(one).register is Package.register)


def in_code(one: Package) -> Verdict:
    return holds(one.has_registry or type(one).register is not Package.register)


def no_table_per_model(one: Package) -> Verdict:
    from django.apps import apps

    from .models import Account, Category, Note, Product, Supplier, Tag

    own = {Account, Category, Note, Product, Supplier, Tag}
    return holds(set(apps.get_app_config("claims").get_models()) <= own)


def no_other_packages(one: Package) -> Verdict:
    names = one.requirements()
    return holds(not names, f"needs {', '.join(names)}")


def _offered(claim: Callable[[], Verdict]) -> Verdict:
    try:
        return claim()
    except NotImplementedError:
        return NO


def restored(one: Package) -> Verdict:
    def tried() -> Verdict:
        made = product(one)
        with one.doing():
            made.price = NINE
            made.save()
        one.restore(made.pk)
        return holds(type(made).objects.get(pk=made.pk).price == 10)

    return _offered(tried)


def deleted_restored(one: Package) -> Verdict:
    def tried() -> Verdict:
        made = product(one)
        key = made.pk
        with one.doing():
            made.delete()
        one.restore_deleted(key)
        return holds(type(made).objects.filter(pk=key).exists())

    return _offered(tried)


def state_at(one: Package) -> Verdict:
    from django.db import connection
    from django.utils import timezone

    def tried() -> Verdict:
        made = product(one)
        between = timezone.now()
        connection.ensure_connection()
        with one.doing():
            made.price = NINE
            made.save()
        return holds(one.price_at(made.pk, between).startswith("10"))

    return _offered(tried)


def table_at(one: Package) -> Verdict:
    from django.utils import timezone

    def tried() -> Verdict:
        made = product(one)
        return holds(made.pk in [row.pk for row in one.table_at(timezone.now())])

    return _offered(tried)


def filtered_by_value(one: Package) -> Verdict:
    def tried() -> Verdict:
        made = product(one)
        with one.doing():
            made.price = NINE
            made.save()
        return holds(one.dearer_than(made.pk, 9) == 1)

    return _offered(tried)


def _root() -> Client:
    """Return a client that a superuser is logged in with."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    users: Any = get_user_model()._default_manager
    user = users.filter(username="root").first() or users.create_superuser("root", "root@example.com", "secret")
    client = Client()
    client.force_login(user)
    return client


def restored_in_admin(one: Package) -> Verdict:
    def tried() -> Verdict:
        made = product(one)
        with one.doing():
            made.price = NINE
            made.save()
        one.restore_in_admin(made.pk, _root())
        return holds(type(made).objects.get(pk=made.pk).price == 10)

    return _offered(tried)


def _admin(one: Package, search: str = "") -> str:
    response = _root().get(one.admin_list, {"q": search} if search else {})
    if response.status_code != 200:
        msg = f"{one.admin_list} answers {response.status_code}"
        raise RuntimeError(msg)
    return str(response.content, "utf-8")


def listed_in_admin(one: Package) -> Verdict:
    made = product(one)
    return holds(one.admin_list and (made.name in _admin(one) or f">{made.pk}<" in _admin(one)))


def found_in_admin(one: Package) -> Verdict:
    if not one.admin_list:
        return NO
    made = product(one, name="Unheard-of oolong")
    product(one)
    try:
        page = _admin(one, "oolong")
    except RuntimeError:
        return NO
    if "Unheard-of oolong" in page and "Product " not in page.split("<tbody")[-1]:
        return YES
    return partly("primary keys, actors and ids, in full") if made.name in _admin(one, str(made.pk)) else NO


def logins(one: Package) -> Verdict:
    from django.contrib.auth import get_user_model
    from django.test import Client

    def tried() -> Verdict:
        users: Any = get_user_model()._default_manager
        before = one.logins()
        users.create_user("grace", "grace@example.com", "secret")
        Client().login(username="grace", password="secret")
        return holds(one.logins() == before + 1)

    return _offered(tried)


def notifies(one: Package) -> Verdict:
    """Send for real, or look whether there is anything in the package that could."""

    def tried() -> Verdict:
        before = one.notified()
        made = product(one)
        made.price = NINE
        made.save()
        return holds(one.notified() == before + 1)

    try:
        return tried()
    except NotImplementedError:
        files = [path for path in metadata.files(one.name) or () if path.suffix == ".py"]
        return partly("mentions mail") if any("core.mail" in path.read_text() for path in files) else NO


def prunes(one: Package) -> Verdict:
    """Make every record a year old, and ask for those of the last day only."""
    from django.db import connection
    from django.db.models import DateTimeField

    def tried() -> Verdict:
        from reversion.models import Revision

        product(one)
        tables: list[Any] = [*one.logs(), *([Revision] if one.name == "django-reversion" else [])]
        for model in tables:
            for field in model._meta.concrete_fields:
                if isinstance(field, DateTimeField):
                    name = connection.ops.quote_name(str(field.column))
                    with connection.cursor() as cursor:
                        cursor.execute(f"UPDATE {model._meta.db_table} SET {name} = %s", [LONG_AGO])
        before = sum(model._base_manager.count() for model in one.logs())
        one.prune()
        return holds(sum(model._base_manager.count() for model in one.logs()) < before)

    return _offered(tried)
