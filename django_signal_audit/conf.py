"""The SIGNAL_AUDIT setting, read lazily and read again when tests override it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, cast

from django.conf import settings as django_settings
from django.core.signals import setting_changed

SETTING = "SIGNAL_AUDIT"

# Words that leave no doubt. What the others find is masked too, and `check` names it.
DOCUMENTED_MASK_FIELDS = (
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "private_key",
    "authorization",
    "cookie",
    "session",
    "otp",
    "cvv",
    "card_number",
    "ssn",
)
DEFAULT_MASK_FIELDS = (
    *DOCUMENTED_MASK_FIELDS,
    "pwd",
    "passphrase",
    "passcode",
    "pass_code",
    "pin",
    "pin_code",
    "credential",
    "bearer",
    "jwt",
    "csrf",
    "xsrf",
    "totp",
    "mfa",
    "cvc",
    "access_key",
    "account_key",
    "activation_code",
    "activation_key",
    "auth_code",
    "auth_key",
    "authorization_code",
    "access_token",
    "auth_token",
    "backup_code",
    "client_key",
    "csrf_token",
    "encryption_key",
    "hash_key",
    "id_token",
    "license_key",
    "master_key",
    "app_key",
    "auth_header",
    "basic_auth",
    "clave",
    "consumer_key",
    "credit_card",
    "ftp_pass",
    "haslo",
    "heslo",
    "http_auth",
    "kreditkarte",
    "losenord",
    "mnemonic",
    "passord",
    "passworter",
    "recovery_key",
    "salasana",
    "sess_id",
    "sudo_pass",
    "wallet_key",
    "one_time_code",
    "recovery_code",
    "recovery_phrase",
    "refresh_token",
    "reset_code",
    "reset_key",
    "secret_key",
    "security_answer",
    "security_code",
    "seed_phrase",
    "session_id",
    "session_key",
    "shared_key",
    "signing_key",
    "ssh_key",
    "verification_code",
    "webhook_key",
    "aes_key",
    "access_code",
    "card_no",
    "card_num",
    "cc_number",
    "client_assertion",
    "code_verifier",
    "confirmation_code",
    "connection_string",
    "contrasena",
    "contraseña",
    "database_url",
    "db_pass",
    "deploy_key",
    "door_code",
    "dsn",
    "email_pass",
    "gpg_key",
    "hmac",
    "kennwort",
    "licence_key",
    "login_code",
    "magic_link",
    "mail_pass",
    "mot_de_passe",
    "pass_wd",
    "pass_word",
    "passwort",
    "pgp_key",
    "preshared_key",
    "presigned_url",
    "priv_key",
    "psk",
    "admin_pw",
    "adminpw",
    "api_pass",
    "apipass",
    "auth_data",
    "authtok",
    "bind_pw",
    "bindpw",
    "cipher_key",
    "confirm_code",
    "cred",
    "des_key",
    "fernet_key",
    "firebase_key",
    "grant_code",
    "hashed_pass",
    "invitation_code",
    "invite_code",
    "keypair",
    "key_pair",
    "keystore_pass",
    "kms_key",
    "otpauth",
    "pass_hash",
    "pass_phrase",
    "pem",
    "pgpass",
    "pw_hash",
    "pwhash",
    "repeat_pass",
    "root_pass",
    "rsa_key",
    "rsa_private",
    "server_key",
    "service_account_json",
    "service_key",
    "ssh_private",
    "ssl_key",
    "stream_key",
    "stripe_key",
    "subscription_key",
    "tfa_code",
    "tls_key",
    "twofactor_code",
    "unlock_key",
    "user_pw",
    "userpw",
    "vault_key",
    "verify_code",
    "puk",
    "pw",
    "saml_response",
    "senha",
    "sessid",
    "signed_url",
    "sms_code",
    "smtp_pass",
    "social_security_number",
    "two_factor_code",
    "two_factor_seed",
    "unlock_code",
    "user_pass",
    "wachtwoord",
    "wifi_key",
    "wpa_key",
    "activation_link",
    "activation_url",
    "confirmation_link",
    "invitation_link",
    "invitation_url",
    "invite_link",
    "invite_url",
    "login_link",
    "reset_link",
    "reset_url",
    "webhook_url",
    "webhook_uri",
    "hook_url",
    "slack_webhook",
    "discord_webhook",
    "teams_webhook",
    "incoming_webhook",
    "adgangskode",
    "cle_api",
    "geheimnis",
    "geheimzahl",
    "geslo",
    "jelszo",
    "jeton",
    "kodeord",
    "lozinka",
    "lykilorð",
    "mat_khau",
    "mdp",
    "palavra_passe",
    "pasahitza",
    "pswd",
    "psw",
    "salasona",
    "secreto",
    "segredo",
    "segreto",
    "sifre",
    "slaptazodis",
    "пароль",
    "секрет",
    "токен",
    "口令",
    "密码",
    "密碼",
    "暗証番号",
    "パスワード",
    "비밀번호",
    "סיסמה",
    "كلمة_المرور",
    "पासवर्ड",
)
# "*" never means these: what a queue notes of a task that delivers would notify, and so enqueue the next.
QUEUE_MODELS = (
    "django_celery_results.*",
    "django_q.*",
    "django_tasks_database.*",
    "procrastinate.*",
)
# What is written all the time and says nothing about the project's data, or says it a second time. Packages whose label
# a project may well give to an app of its own are named by model.
DEFAULT_EXCLUDE_MODELS = (
    "django_signal_audit.*",
    # Django's own; permissions are made by migrate
    "admin.logentry",
    "auth.permission",
    "contenttypes.contenttype",
    "migrations.migration",
    "sessions.session",
    # sessions of other packages
    "qsessions.session",
    "user_sessions.session",
    # queues and schedulers: the arguments of tasks may hold anything
    *QUEUE_MODELS,
    "background_task.*",
    "db_mutex.*",
    "django_apscheduler.*",
    "django_celery_beat.*",
    "django_dramatiq.*",
    "djcelery.*",
    "huey_monitor.*",
    # other histories of the same changes
    "auditlog.logentry",
    "easyaudit.*",
    "field_audit.*",
    "field_history.*",
    "pghistory.*",
    "reversion.*",
    "simple_history.*",
    # profilers, logs of requests, attempts to log in
    "axes.*",
    "debug_toolbar.*",
    "defender.accessattempt",
    "drf_api_logger.*",
    "rest_framework_tracking.*",
    "silk.*",
    # what is made from other data, and can be made again
    "captcha.captchastore",
    "easy_thumbnails.*",
    "health_check_db.*",
    "thumbnail.kvstore",
    "wagtailcore.referenceindex",
    "wagtailsearch.*",
    "watson.searchentry",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keys of SIGNAL_AUDIT with their defaults, by lower-case name.

    Attributes hold what the user wrote where its type is right and the default where it is not:
    the system checks report the mistake, and nothing else has to expect it.
    """

    enabled: bool = True
    rules: Sequence[Any] = ()
    channels: Mapping[str, object] = field(default_factory=dict)
    mask_fields: Sequence[str] = DEFAULT_MASK_FIELDS
    mask_key: str | bytes = ""
    exclude_models: Sequence[str] = DEFAULT_EXCLUDE_MODELS
    on_error: str = "raise"
    dispatcher: str = "django_signal_audit.dispatchers.OnCommitDispatcher"
    send_timeout: float = 60.0
    capture_queries: bool = True
    engine: str = "auto"
    max_value_bytes: int = 65_536
    trusted_proxies: Sequence[str] = ()
    actor: str = ""
    context: str = ""
    tenant: str | Mapping[str, str] = ""
    report_formats: Mapping[str, str] = field(default_factory=dict)
    export_formats: Mapping[str, str] = field(default_factory=dict)
    visibility: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    site_url: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


def _is_strings(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) for item in value)


def _is_words(value: object) -> bool:
    return _is_strings(value) and all(any(map(str.isalnum, item)) for item in cast("Sequence[str]", value))


def _is_key(value: object) -> bool:
    try:
        return isinstance(value, bytes) or (isinstance(value, str) and value.encode() is not None)
    except UnicodeEncodeError:
        return False


def _is_site(value: object) -> bool:
    return isinstance(value, str) and (not value or re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value) is not None)


def _is_string_map(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(part, str) for pair in value.items() for part in pair)


def _is_channels(value: object) -> bool:
    # {"BACKEND": "…"} is a channel without its alias.
    return (
        isinstance(value, Mapping)
        and all(isinstance(alias, str) for alias in value)
        and not isinstance(value.get("BACKEND"), str)
    )


# key -> (what it must be, in words; the test of it)
KEYS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "ENABLED": ("True or False", lambda value: isinstance(value, bool)),
    "RULES": ("a list of rules", lambda value: isinstance(value, (list, tuple))),
    "CHANNELS": (
        "a dict of alias to {'BACKEND': dotted path, 'OPTIONS': dict}",
        _is_channels,
    ),
    "MASK_FIELDS": ("a list of words", _is_words),
    "MASK_KEY": ("a string or bytes", _is_key),
    "EXCLUDE_MODELS": ("a list of model labels", _is_strings),
    "ON_ERROR": ("'raise' or 'log'", lambda value: isinstance(value, str) and value in ("raise", "log")),
    "DISPATCHER": ("the dotted path of a dispatcher", lambda value: isinstance(value, str)),
    "SEND_TIMEOUT": (
        "a number of seconds, more than 0, at most a day",
        lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 86_400,
    ),
    "CAPTURE_QUERIES": ("True or False", lambda value: isinstance(value, bool)),
    "ENGINE": ("'auto' or 'portable'", lambda value: isinstance(value, str) and value in ("auto", "portable")),
    "MAX_VALUE_BYTES": (
        "a positive whole number of bytes",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    ),
    "TRUSTED_PROXIES": ("a list of IP addresses or networks", _is_strings),
    "ACTOR": ("the dotted path of a function", lambda value: isinstance(value, str)),
    "CONTEXT": ("the dotted path of a function", lambda value: isinstance(value, str)),
    "TENANT": (
        "the dotted path of a function, or a dict of model to field",
        lambda value: isinstance(value, str) or _is_string_map(value),
    ),
    "REPORT_FORMATS": ("a dict of alias to dotted path", _is_string_map),
    "EXPORT_FORMATS": ("a dict of alias to dotted path", _is_string_map),
    "VISIBILITY": ("the dotted path of a function", lambda value: isinstance(value, str)),
    "SITE_URL": ('the address of the site, such as "https://shop.example.com"', _is_site),
    "RENAMED": ("a dict of former to new labels, or label.field", _is_string_map),
    "EVIDENCE": (
        "a dict of KEY, PUBLIC_KEYS, ANCHORS, INTERVAL, ORIGIN and WORKER",
        lambda value: isinstance(value, Mapping) and all(isinstance(key, str) for key in value),
    ),
}


def raw_settings() -> object:
    """Return SIGNAL_AUDIT as the user wrote it, of whatever type, or an empty dict."""
    return getattr(django_settings, SETTING, {})


@cache
def get_settings() -> Settings:
    """Return the settings in force."""
    raw = raw_settings()
    if not isinstance(raw, Mapping):
        return Settings()
    good = {key: value for key, value in raw.items() if key in KEYS and KEYS[key][1](value)}
    return Settings(**{item.name: good[item.name.upper()] for item in fields(Settings) if item.name.upper() in good})


def is_unread(key: str) -> bool:
    """Return whether the value of a key is of a wrong type, so that its default is in force."""
    raw = raw_settings()
    return isinstance(raw, Mapping) and key in raw and not KEYS[key][1](raw[key])


_listeners: list[Callable[[], None]] = []


def on_settings_changed(listener: Callable[[], None]) -> Callable[[], None]:
    """Call the listener whenever SIGNAL_AUDIT changes, in order of registration; usable as a decorator."""
    if listener not in _listeners:
        _listeners.append(listener)
    return listener


# What the value of one of these settings decides is cached somewhere in this package.
_WATCHED_SETTINGS = {SETTING, "SECRET_KEY", "INSTALLED_APPS", "MIDDLEWARE", "DATABASES", "USE_TZ", "TIME_ZONE"}


def _setting_changed(*, setting: str, **_: object) -> None:
    if setting in _WATCHED_SETTINGS:
        get_settings.cache_clear()
        for listener in _listeners:
            listener()


setting_changed.connect(_setting_changed, dispatch_uid="django_signal_audit.conf")
