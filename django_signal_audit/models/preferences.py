"""What users choose: which notifications they get, how often, at what time, and for which objects they get none."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Self

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_signal_audit.enums import Choice
from django_signal_audit.events.keys import MAX_LENGTH, object_id
from django_signal_audit.models.fields import AnyCharField, Moment, NameField, Text, UtcDateTimeField
from django_signal_audit.models.tenants import tenant_of_tables

from .events import utc_now


class PreferenceQuerySet(models.QuerySet["Preference"]):
    """What users have chosen for rules and channels."""

    def choose(self, user: models.Model, *, rule: str, channel: str, choice: str) -> None:
        """Note how a user wants to be notified by a rule through a channel.

        Args:
            user: The user.
            rule: The name of the rule.
            channel: The alias of the channel.
            choice: ``on``, ``off``, or how often as a digest: ``1h``, ``1d`` or ``1w``.

        """
        chosen = Choice(choice).value
        self.update_or_create(user=object_id(user.pk), rule=rule, channel=channel, defaults={"choice": chosen})


def key_of_tenant(tenant: str) -> str:
    """Return the key that muted objects have for a tenant, ``""`` for none."""
    return hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest() if tenant else ""


class MuteQuerySet(models.QuerySet["Mute"]):
    """The objects that users have muted."""

    def of(self, user: models.Model) -> Self:
        """Return those of one user, and of the current tenant where the setting TENANT names a function."""
        return self.filter(user=object_id(user.pk), tenant_key=key_of_tenant(tenant_of_tables()))

    def mute(self, user: models.Model, model: str, pk: object, name: str = "") -> None:
        """Have a user notified of an object no more, unless a rule is locked.

        Args:
            user: The user.
            model: The model's label, in any case.
            pk: The primary key, or its text as events have it.
            name: What the list of muted objects calls it.

        """
        of = {"user": object_id(user.pk), "tenant_key": key_of_tenant(tenant_of_tables())}
        self.get_or_create(**of, model=model.lower(), object_id=object_id(pk), defaults={"object_repr": name})


class Preference(models.Model):
    """How a user wants to be notified by one rule through one channel; without a row, the settings decide."""

    id = models.BigAutoField(primary_key=True)
    user: Text = NameField(_("user"), max_length=MAX_LENGTH)
    rule: Text = AnyCharField(_("rule"), max_length=100)
    channel: Text = AnyCharField(_("channel"), max_length=100)
    choice = models.CharField(_("choice"), max_length=10, choices=Choice.choices)

    objects = PreferenceQuerySet.as_manager()

    class Meta:
        verbose_name = _("preference")
        verbose_name_plural = _("preferences")
        # Users change their own, on the page of the inbox.
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user", "rule", "channel"], name="dsa_preference_unique")]

    def __str__(self) -> str:
        return f"{self.user}: {self.rule} → {self.channel}: {self.choice}"


class Mute(models.Model):
    """An object that a user wants to hear nothing of."""

    id = models.BigAutoField(primary_key=True)
    user: Text = NameField(_("user"), max_length=MAX_LENGTH)
    # A hash of the tenant, where the setting TENANT names a function: rows of two tenants may have one key. With its
    # name, the index would be longer than MySQL's may be.
    tenant_key = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)
    model: Text = AnyCharField(_("model"), max_length=100)
    object_id: Text = NameField(_("object id"), max_length=MAX_LENGTH)
    object_repr: Text = AnyCharField(_("object"), max_length=MAX_LENGTH, blank=True, default="")
    muted_at: Moment = UtcDateTimeField(_("muted at"), default=utc_now)

    objects = MuteQuerySet.as_manager()

    class Meta:
        verbose_name = _("muted object")
        verbose_name_plural = _("muted objects")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["user", "tenant_key", "model", "object_id"], name="dsa_mute_unique")
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.object_repr or self.object_id}"


class QuietHours(models.Model):
    """When a user wants critical notifications only: each day from one time to another, maybe past midnight."""

    user: Text = NameField(_("user"), max_length=MAX_LENGTH, primary_key=True)
    begin: models.TimeField[dt.time, dt.time] = models.TimeField(_("from"))
    end: models.TimeField[dt.time, dt.time] = models.TimeField(_("until"))
    time_zone = models.CharField(_("time zone"), max_length=100)

    class Meta:
        verbose_name = _("quiet hours")
        verbose_name_plural = _("quiet hours")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M} {self.time_zone}"
