"""Which fields of a model are masked without being asked for: by their name, their class, or their model's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import cache
from typing import Any, TypeAlias

from django.db import models

from django_signal_audit.conf import on_settings_changed

from .masking import contains, is_guess, is_refused, is_secret, runs_of, words_of

Model: TypeAlias = type[models.Model]
Field: TypeAlias = "models.Field[Any, Any]"


class Reason(Enum):
    """Why a field is masked."""

    NAME = "by its name"
    GUESS = "by its name, which resembles a secret's"
    ENCRYPTS = "because its class seems to encrypt"
    MODEL = "because a model of that name seems to hold secrets"
    REFERS = "because it holds the value of a masked field"


_ENCRYPTS = ("encrypt", "fernet", "cipher")
_ENCRYPTS_WORDS = {"crypt", "crypto", "cryptography", "pgcrypto", "pgp", "vault", "secret", "secrets"}
_KNOWN_BASES = ("django.", "django_signal_audit.")

# A field with one of the latter as its last word is a secret in a model with one of the former in its name.
_SECRET_MODELS = runs_of([
    "token", "secret", "credential", "password", "passcode", "otp", "totp", "hotp", "session", "nonce", "invitation",
    "invite", "verification", "activation", "recovery", "authenticator", "passkey", "api_key", "access_key",
    "email_confirmation", "phone_confirmation",
])  # fmt: skip
_SECRET_IN_THEM = {"key", "code", "hash", "digest", "value", "nonce"}
_TEXTS = (models.CharField, models.TextField, models.BinaryField, models.UUIDField)
# Of packages whose names do not tell.
_KNOWN = {
    "oauth2_provider.grant": {"code"},
    "oauth2_provider.devicegrant": {"device_code", "user_code"},
    "rest_framework_api_key.apikey": {"id", "hashed_key"},
    "social_django.code": {"code"},
    "two_factor.phonedevice": {"key"},
}


@cache
def secret_fields(model: Model) -> dict[str, Reason]:
    """Return why fields of a model are masked, by name, primary keys among them, as far as no rule says so."""
    found = {field.name: why for field in model._meta.concrete_fields if (why := _why(field)) is not None}
    for field in model._meta.concrete_fields:
        if isinstance(field, models.GeneratedField) and field.name not in found and _names(field) & found.keys():
            found[field.name] = Reason.REFERS
    return found


on_settings_changed(secret_fields.cache_clear)

# The registry of rules sits above this module and puts in what it knows.
_masked_by_rules: Callable[[Model], Iterable[str]] = lambda _model: ()  # noqa: E731


def ask_rules(masked: Callable[[Model], Iterable[str]]) -> None:
    """Set what tells the names of the fields that rules have masked."""
    global _masked_by_rules
    _masked_by_rules = masked


@cache
def masked_fields(model: Model) -> frozenset[str]:
    """Return the names of all fields of a model whose values are masked, for whatever reason."""
    model = model._meta.concrete_model or model
    names = {field.name for field in model._meta.concrete_fields}
    return frozenset(secret_fields(model)) | (names & set(_masked_by_rules(model)))


on_settings_changed(masked_fields.cache_clear)


def is_masked(field: Field) -> bool:
    """Return whether values of a field are masked: of its own accord, by a rule, or as keys of rows that have such."""
    while isinstance(field, models.ForeignKey):
        if field.name in masked_fields(field.model):
            return True
        field = field.target_field
    return field.name in masked_fields(field.model)


@cache
def has_secret_key(model: Model) -> bool:
    """Return whether the primary key of a model's rows is masked, so that events must not name them by it."""
    return any(is_masked(field) for field in model._meta.pk_fields)


on_settings_changed(has_secret_key.cache_clear)


def _why(field: Field) -> Reason | None:
    if is_refused(field.name):
        return None
    if is_secret(field.name):
        return Reason.GUESS if is_guess(field.name) else Reason.NAME
    if isinstance(field, models.ForeignKey):
        return _why_reference(field)
    if _encrypts(field):
        return Reason.ENCRYPTS
    return Reason.MODEL if _is_secret_by_model(field) else None


def _why_reference(field: Field) -> Reason | None:
    target: Any = field.remote_field
    is_known = isinstance(target.model, type) and target.model is not field.model
    return Reason.REFERS if is_known and _why(field.target_field) is not None else None  # type: ignore[attr-defined]


def _is_secret_by_model(field: Field) -> bool:
    meta = field.model._meta
    if field.name in _KNOWN.get(meta.label_lower, ()):
        return True
    words = words_of(field.name)
    is_text = isinstance(field, _TEXTS) and words and words[-1] in _SECRET_IN_THEM
    return bool(is_text) and contains(words_of(meta.object_name or ""), _SECRET_MODELS)


def _encrypts(field: Field) -> bool:
    base = getattr(field, "base_field", None)
    if isinstance(base, models.Field) and _encrypts(base):
        return True
    kinds = [kind for kind in type(field).__mro__[:-1] if not kind.__module__.startswith(_KNOWN_BASES)]
    return any(_says_so(kind.__module__) or _says_so(kind.__name__) for kind in kinds)


def _says_so(name: str) -> bool:
    return any(part in name.lower() for part in _ENCRYPTS) or not _ENCRYPTS_WORDS.isdisjoint(words_of(name))


def _names(field: models.GeneratedField) -> set[str]:
    """Return the names of the columns that a generated one is computed from."""

    def walk(expression: object) -> Iterator[str]:
        if isinstance(expression, models.F):
            yield str(expression.name)  # type: ignore[attr-defined]
        for part in getattr(expression, "get_source_expressions", list)():
            yield from walk(part)

    return set(walk(field.expression))  # type: ignore[attr-defined]
