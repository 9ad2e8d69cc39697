"""Claims about transactions, actors and secrets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from .base import Package
from .trying import (
    NO,
    YES,
    Verdict,
    has_price,
    holds,
    killed_at,
    partly,
    product,
)

NINE = Decimal("9.00")
MOST_STATEMENTS = 40


def failed_save(one: Package) -> Verdict:
    from django.db import IntegrityError

    other, made = product(one), product(one)
    before = len(list(one.records(made.pk)))
    made.code = other.code
    try:
        with one.doing():
            made.save()
    except IntegrityError:
        pass
    else:
        return NO
    found = list(one.records(made.pk))[before:]
    return holds(not found, "a record without its change")


def rolled_back(one: Package) -> Verdict:
    from django.db import transaction

    made = product(one)
    before = len(list(one.records(made.pk)))
    with transaction.atomic():
        with one.doing():
            made.price = NINE
            made.save()
        transaction.set_rollback(True)
    return holds(len(list(one.records(made.pk))) == before)


def savepoint_rolled_back(one: Package) -> Verdict:
    from django.db import transaction

    made = product(one)
    before = len(list(one.records(made.pk)))
    with transaction.atomic(), one.doing(), transaction.atomic():
        made.price = NINE
        made.save()
        transaction.set_rollback(True)
    return holds(len(list(one.records(made.pk))) == before)


def killed(one: Package) -> Verdict:
    """Kill the process before each of its statements in turn, until it gets through."""
    for number in range(1, MOST_STATEMENTS):
        made = product(one)
        before = len(list(one.records(made.pk)))

        def save(made: Any = made) -> None:
            with one.doing():
                made.price = NINE
                made.save()

        was_killed = killed_at(number, save)
        has_changed = type(made).objects.get(pk=made.pk).price == NINE
        is_recorded = has_price(list(one.records(made.pk))[before:])
        if has_changed != is_recorded:
            return holds(False, "a change without its record" if has_changed else "a record without its change")
        if not was_killed:
            return holds(has_changed)
    return NO


def content_type_removed(one: Package) -> Verdict:
    """Delete the content type, as `remove_stale_contenttypes` does, in a transaction that is undone."""
    from django.contrib.contenttypes.models import ContentType
    from django.db import transaction

    made = product(one)
    with transaction.atomic():
        before = sum(model._base_manager.count() for model in one.logs())
        ContentType.objects.get_for_model(type(made)).delete()
        after = sum(model._base_manager.count() for model in one.logs())
        transaction.set_rollback(True)
    ContentType.objects.clear_cache()
    return holds(before == after, "deletes the records by cascade")


def _user() -> Any:
    from django.contrib.auth import get_user_model

    users: Any = get_user_model()._default_manager
    number = users.count() + 1
    return users.create_superuser(f"ada-{number}", f"ada-{number}@example.com", "secret")


def _names(one: Package, key: int, user: Any) -> bool:
    text = one.actor(key)
    return user.username in text or f"{user.pk}" in text.replace("'", " ").replace("}", " ").replace(",", " ").split()


def actor_of_request(one: Package) -> Verdict:
    from django.test import Client

    made, user, client = product(one), _user(), Client()
    client.force_login(user)
    client.post(f"/change/{made.pk}/")
    return holds(_names(one, made.pk, user))


def actor_inside_view(one: Package) -> Verdict:
    from django.test import Client

    made, user = product(one), _user()
    Client().post(f"/change-with-token/{made.pk}/", headers={"authorization": user.username})
    return holds(_names(one, made.pk, user))


def actor_deleted(one: Package) -> Verdict:
    from django.test import Client

    made, user, client = product(one), _user(), Client()
    client.force_login(user)
    client.post(f"/change/{made.pk}/")
    key = user.pk
    user.delete()
    text = one.actor(made.pk)
    if user.username in text:
        return YES
    user.pk = key
    return partly("the primary key alone") if _names(one, made.pk, user) else NO


def _stored(one: Package, **values: str) -> str:
    """Return everything that the log holds after an account was made with these values."""
    from .models import Account

    with one.doing():
        Account.objects.create(**values)
    return str([list(model._base_manager.values()) for model in one.logs()])


def password_hidden(one: Package) -> Verdict:
    return holds("correct-horse" not in _stored(one, password="correct-horse"))


def masked(one: Package) -> Verdict:
    iban = "GB33BUKB20201555555555"
    stored = _stored(one, iban=iban)
    if iban in stored:
        return NO
    half = len(iban) // 2
    return partly("half of the value stays readable") if iban[-half:] in stored or iban[:half] in stored else YES


def left_out(one: Package) -> Verdict:
    return holds("a private remark" not in _stored(one, remark="a private remark"))
