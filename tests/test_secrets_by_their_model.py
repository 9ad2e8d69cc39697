"""Fields that are secrets because of what their model is: a code that lets somebody in, a link that nobody else has."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.core import serializers
from django.db import models
from django.test.utils import isolate_apps

from django_signal_audit import record
from django_signal_audit.events.secret_fields import secret_fields
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .conftest import Audit, events
from .vault.models import Invitation, LoginCode

Fields = dict[str, "models.Field[Any, Any]"]


def text(**options: Any) -> Any:
    return models.CharField(max_length=100, **options)


def secrets_of(name: str, fields: Fields) -> set[str]:
    with isolate_apps("tests.vault"):
        options = {"__module__": __name__, "Meta": type("Meta", (), {"app_label": "vault"}), **fields}
        return set(secret_fields(type(name, (models.Model,), options)))


SECRET = [
    *[
        (name, "code", text)
        for name in (
            "BackupCode", "LoginCode", "AccessCode", "RecoveryCode", "VerificationCode", "SMSCode", "InviteCode",
            "RegistrationCode", "PairingCode", "OTP", "EmailOTP", "PhoneVerification", "AccountActivation", "ResetCode",
            "PasswordReset", "TwoFactorCode", "DeviceCode",
        )
    ],
    *[
        (name, "key", text)
        for name in (
            "ShareLink", "SigningKey", "EncryptionKey", "APIKey", "ApiKey", "AccessKey", "LicenseKey", "DeployKey",
            "MagicLink", "Passkey", "ServiceToken",
        )
    ],
    *[(name, "key", lambda: text(primary_key=True)) for name in ("DeviceKey", "ClientKey", "ServiceKey")],
    *[(name, "code", models.IntegerField) for name in ("OTP", "LoginCode", "PhoneVerification", "PinCode")],
    ("OTP", "code", models.PositiveSmallIntegerField),
    ("OTP", "code", models.BigIntegerField),
    *[(name, "id", lambda: models.UUIDField(primary_key=True)) for name in ("Token", "Invitation", "MagicLink")],
    *[(name, "id", lambda: text(primary_key=True)) for name in ("AccessToken", "TeamInvite", "ShareLink")],
    *[(name, "uuid", models.UUIDField) for name in ("Token", "Invitation", "EmailVerification")],
    ("PasswordResetRequest", "uuid", models.UUIDField),
    *[(name, "slug", models.SlugField) for name in ("MagicLink", "Invitation", "SharedLink", "DownloadLink")],
    ("MagicLink", "url", models.URLField),
    ("Invitation", "guid", text),
    ("InvitationCode", "uid", text),
    ("Token", "hashed_key", text),
    ("Invitation", "invite_code", text),
]  # fmt: skip
CLEAR = [
    # What a model of such a name has beside its secret.
    *[
        ("PhoneVerification", name, text)
        for name in (
            "country_code", "postal_code", "language_code", "status_code", "error_code", "area_code", "calling_code",
        )
    ],
    ("Invitation", "promo_code", text),
    ("Invitation", "role_key", text),
    ("Credential", "public_key", text),
    ("Token", "currency_code", text),
    ("Token", "cache_key", text),
    ("Token", "user_id", text),
    ("Invitation", "external_id", text),
    ("MagicLink", "title", text),
    ("Invitation", "company_slug", models.SlugField),
    # A number of the row, and no secret.
    ("Token", "id", lambda: models.BigAutoField(primary_key=True)),
    ("Token", "value", models.DecimalField),
    ("Token", "value", models.IntegerField),
    ("MagicLink", "number", models.IntegerField),
    # One of few values that everybody knows.
    ("Verification", "code", lambda: text(choices=[("ok", "Fine"), ("no", "Failed")])),
    # What such models are about.
    *[(name, "code", text) for name in (
        "TokenType", "SessionType", "PasswordPolicy", "OTPStatus", "InvitationReason", "CredentialKind",
        "VerificationLevel", "TokenCategory",
    )],
    *[(name, "code", text) for name in (
        "PromoCode", "CountryCode", "ZipCode", "QRCode", "Coupon", "Voucher", "Product", "Currency", "ReferralCode",
    )],
    ("_", "code", text),
    *[(name, "key", text) for name in ("Setting", "PublicKey", "ForeignKey", "Translation", "CacheEntry")],
    *[(name, "slug", models.SlugField) for name in ("ChatSession", "Link", "SocialLink", "Article", "SessionTalk")],
    *[(name, "id", lambda: models.UUIDField(primary_key=True)) for name in (
        "ChatSession", "Order", "IdentityVerification", "TokenTransfer", "InvitationTemplate", "Pin",
    )],
]  # fmt: skip


@pytest.mark.parametrize(("model", "field", "make"), SECRET, ids=lambda value: value if isinstance(value, str) else "")
def test_secrets_that_their_model_tells(model: str, field: str, make: Any) -> None:
    assert secrets_of(model, {field: make()}) == {field}


@pytest.mark.parametrize(("model", "field", "make"), CLEAR, ids=lambda value: value if isinstance(value, str) else "")
def test_fields_that_stay_in_clear(model: str, field: str, make: Any) -> None:
    assert secrets_of(model, {field: make()}) == set()


def test_a_uuid_is_a_plain_name_of_a_row_that_has_a_secret_besides() -> None:
    key = models.UUIDField(primary_key=True)
    assert secrets_of("Invitation", {"id": key, "token": text()}) == {"token"}
    key = models.UUIDField(primary_key=True)
    assert secrets_of("AccessToken", {"id": key, "key": text(), "slug": models.SlugField()}) == {"key"}


@isolate_apps("tests.vault")
def test_what_refers_to_such_a_row_holds_its_secret() -> None:
    class Invitation(models.Model):
        id = models.UUIDField(primary_key=True)
        seat = models.ForeignKey("Seat", models.CASCADE, null=True)

        class Meta:
            app_label = "vault"

    class Seat(models.Model):
        invitation = models.ForeignKey(Invitation, models.CASCADE)

        class Meta:
            app_label = "vault"

    assert set(secret_fields(Seat)) == {"invitation"}
    assert set(secret_fields(Invitation)) == {"id"}


def everything_written() -> str:
    return serializers.serialize("json", [*AuditEvent.objects.all(), *Notification.objects.all()])


@pytest.mark.django_db
def test_an_invitation_is_named_by_a_tag(audit: Audit) -> None:
    audit({"name": "vault", "model": "vault.*"})
    key = uuid.uuid4()
    invitation = Invitation.objects.create(id=key, email="a@example.com")
    Invitation.objects.update(email="b@example.com")
    record("opened", invitation, data={"invitation": invitation, "by": [invitation]})
    assert AuditEvent.objects.state_of(Invitation, key) == {"email": "b@example.com"}
    invitation.delete()
    assert {event.object_repr for event in events()} == {"/invitations/********/"}
    assert str(key) not in everything_written()
    assert key.hex not in everything_written()
    assert list(Replay(get_registry().plans.values(), "default").differences()) == []


@pytest.mark.django_db
def test_a_code_of_digits_is_masked(audit: Audit) -> None:
    audit({"name": "vault", "model": "vault.*"})
    LoginCode.objects.create(code=493817, email="a@example.com")
    LoginCode.objects.update(code=612845)
    assert all("$masked" in json.dumps(event.changes["code"]) for event in events())
    assert "493817" not in everything_written()
    assert "612845" not in everything_written()
    assert list(Replay(get_registry().plans.values(), "default").differences()) == []
