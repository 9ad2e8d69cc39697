"""Which fields of a model are masked without being asked for: by their name, their class, or their model's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import cache, lru_cache
from typing import Any, TypeAlias

from django.apps import apps
from django.db import models
from django.db.models.fields import AutoFieldMixin

from django_signal_audit.conf import DEFAULT_MASK_FIELDS, on_settings_changed

from .masking import Words, contains, is_guess, is_refused, is_secret, may_be_value, runs_of, singular, words_of

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
    "invite", "verification", "activation", "recovery", "authenticator", "passkey", "api_key", "email_confirmation",
    "phone_confirmation", "registration_code", "pairing_code", "device_code", "share_link", "client_key", "device_key",
    "service_key",
    *(name for name in DEFAULT_MASK_FIELDS if name.endswith(("_code", "_key", "_link"))),
])  # fmt: skip
_SECRET_IN_THEM = {"key", "code", "hash", "digest", "value", "nonce"}
_TEXTS = (models.CharField, models.TextField, models.BinaryField, models.UUIDField)
# A code may be a number. A key or a value that is one counts or refers to something.
_CODES = {"code", "nonce"}
# What a code or a key is of, when it is no secret: "country_code", "public_key".
_KNOWN_TO_ALL = {
    "area", "bank", "cache", "calling", "country", "coupon", "currency", "dial", "dialing", "discount", "error", "exit",
    "foreign", "item", "lang", "language", "locale", "postal", "postcode", "product", "promo", "promotion", "public",
    "reason", "referral", "region", "response", "role", "sort", "state", "status", "type", "zip",
}  # fmt: skip
# Models of these last words say something about secrets, and hold none.
_ABOUT = {
    "category", "choice", "kind", "level", "plan", "policy", "provider", "reason", "setting", "state", "status",
    "template", "type",
}  # fmt: skip
# A link that has what identifies a row of these models lets somebody in, unless another field does.
_LINKS = runs_of([
    "token", "invitation", "invite", "magic_link", "share_link", "shared_link", "private_link", "secret_link",
    "public_link", "guest_link", "download_link", "upload_link", "login_link", "access_link", "reset_link",
    "invite_link", "one_time_link", "password_reset", "email_verification", "email_confirmation", "email_activation",
    "account_activation", "account_verification",
])  # fmt: skip
_IDENTIFIERS = {"guid", "id", "link", "slug", "uid", "url", "uuid"}
_ENDS_OF_LINKS = {"code", "link", "request"}
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


@cache
def _shapes() -> dict[frozenset[str], frozenset[str]]:
    """Return the masked names of rows as ``values()`` and ``model_to_dict()`` give them, by all of their names."""
    found: dict[frozenset[str], frozenset[str]] = {}
    for model in apps.get_models():
        fields = model._meta.concrete_fields
        masked = {name for field in fields if is_masked(field) for name in (field.name, field.attname)}
        editable = [field.name for field in (*fields, *model._meta.many_to_many) if field.editable]
        for names in (frozenset(field.attname for field in fields), frozenset(editable)) if masked else ():
            found[names] = found.get(names, frozenset()) | (masked & names)
    return found


on_settings_changed(_shapes.cache_clear)


def secrets_of_row(row: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the secrets in an object that seems to be a row: it has all names of one, and no other.

    Two names are few: what has both of them may be anything, so its secrets have to look like such.
    """
    names = _shapes().get(frozenset(row), frozenset())
    return names if len(row) > 2 else frozenset(name for name in names if may_be_value(row[name]))


def secrets_of_serialized(document: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the masked fields of an object as Django serializes it, with "pk" for its primary key."""
    label, fields = document.get("model"), document.get("fields")
    if not isinstance(label, str) or "pk" not in document or not isinstance(fields, dict):
        return frozenset()
    try:
        model: Any = apps.get_model(label)
    except (LookupError, ValueError):
        return frozenset()
    names = frozenset(field.name for field in model._meta.concrete_fields if is_masked(field))
    return names | {"pk"} if has_secret_key(model) else names


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
    if field.name in _KNOWN.get(field.model._meta.label_lower, ()):
        return True
    return (_is_code(field) and _holds_secrets(_words_of_model(field))) or _is_secret_link(field)


def _words_of_model(field: Field) -> Words:
    return _words(field.model.__name__)


@lru_cache(10_000)
def _words(name: str) -> Words:
    """Return the words of the name of a field or model, which are asked for at each change of the settings."""
    return words_of(name) or ("",)


def _holds_secrets(model: Words) -> bool:
    return contains(model, _SECRET_MODELS) and model[-1] not in _ABOUT


def _is_code(field: Field) -> bool:
    """Return whether a field has the name and the type of a secret, as far as its model holds such."""
    *before, last = _words(field.name)
    if last not in _SECRET_IN_THEM or field.choices or not _KNOWN_TO_ALL.isdisjoint(before):
        return False
    is_number = isinstance(field, models.IntegerField) and not isinstance(field, AutoFieldMixin)
    return isinstance(field, _TEXTS) or (is_number and last in _CODES)


def _is_secret_link(field: Field) -> bool:
    """Return whether a field identifies a row whose link lets somebody in, and the row has no other secret."""
    if not _identifies(field) or not _lets_in(_words_of_model(field)):
        return False
    others = [other for other in field.model._meta.concrete_fields if not _identifies(other)]
    return not any(_why(other) for other in others if not isinstance(other, models.ForeignKey))


def _identifies(field: Field) -> bool:
    return field.name in _IDENTIFIERS and isinstance(field, _TEXTS) and not field.choices


def _lets_in(model: Words) -> bool:
    ends = [model, model[:-1]] if model[-1] in _ENDS_OF_LINKS else [model]
    return any(tuple(map(singular, words[start:])) in _LINKS for words in ends for start in range(len(words)))


def _encrypts(field: Field) -> bool:
    base = getattr(field, "base_field", None)
    if isinstance(base, models.Field) and _encrypts(base):
        return True
    kind: type = type(field)
    return _is_named_for_it(kind)


@cache
def _is_named_for_it(kind: type) -> bool:
    bases = [base for base in kind.__mro__[:-1] if not base.__module__.startswith(_KNOWN_BASES)]
    return any(_says_so(base.__module__) or _says_so(base.__name__) for base in bases)


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
