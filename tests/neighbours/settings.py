"""Settings of the project that the environment names: common ones, and those that its package asks for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from tests.databases import URL, database

AUDIT_MIDDLEWARE = "django_signal_audit.middleware.AuditMiddleware"


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the settings of a project have beside the common ones."""

    # Modules without which its tests are left out.
    needs: tuple[str, ...] = ()
    # The database without which they are left out.
    scheme: str = ""
    before: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    middleware: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    # Instead of the common ones.
    only_apps: tuple[str, ...] = ()
    only_middleware: tuple[str, ...] | None = None
    # Part of the short form, which runs with every build.
    is_short: bool = False

    @property
    def missing(self) -> str:
        """Return what is not there and therefore keeps its tests from running."""
        if self.scheme and not URL.startswith(self.scheme):
            return f"it needs a server: AUDIT_TEST_DATABASE_URL={self.scheme}://…"
        absent = ", ".join(name for name in self.needs if find_spec(name) is None)
        return absent and f"{absent} is not installed; the tox environment neighbours has it"


def backends(*others: str) -> dict[str, Any]:
    """Return the setting with Django's own backend and others."""
    return {"AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend", *others]}


_OF_TENANTS = ("django.contrib.contenttypes", "django.contrib.auth", "tests.neighbours.shop")
_OF_PAGES = (
    "django.contrib.admin",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
)


def tenants(*, audits_schemas: bool) -> Project:
    """Return a project with a schema for each tenant, and the audit log in each of them or in the public one only."""
    shared = ("django_tenants", "tests.neighbours.company", "django_signal_audit", *_OF_PAGES, *_OF_TENANTS)
    of_schemas = (*(("django_signal_audit",) if audits_schemas else ()), *_OF_PAGES, *_OF_TENANTS)
    rules = [{"name": "shop", "model": "shop.*", "notify": ["log"]}, {"name": "company", "model": "company.*"}]
    name = "tenants" if audits_schemas else "tenants_shared"
    return Project(
        needs=("django_tenants",),
        scheme="postgresql",
        only_apps=shared,
        only_middleware=(
            "django_tenants.middleware.main.TenantMainMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            AUDIT_MIDDLEWARE,
        ),
        settings={
            "DATABASES": {"default": {**database(URL, f"_{name}"), "ENGINE": "django_tenants.postgresql_backend"}},
            "DATABASE_ROUTERS": ["django_tenants.routers.TenantSyncRouter"],
            "SHARED_APPS": shared,
            "TENANT_APPS": of_schemas,
            "TENANT_MODEL": "company.Company",
            "TENANT_DOMAIN_MODEL": "company.Domain",
            "SIGNAL_AUDIT": {
                "RULES": rules,
                "CHANNELS": {"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}},
                "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
                **({} if audits_schemas else {"TENANT": "tests.neighbours.schemas.current_schema"}),
            },
        },
        is_short=True,
    )


PROJECTS = {
    "allauth": Project(
        needs=("allauth",),
        apps=("allauth", "allauth.account"),
        middleware=("allauth.account.middleware.AccountMiddleware",),
        settings={
            **backends("allauth.account.auth_backends.AuthenticationBackend"),
            "ACCOUNT_EMAIL_VERIFICATION": "none",
            "ACCOUNT_RATE_LIMITS": False,
            "LOGIN_REDIRECT_URL": "/",
        },
    ),
    "cachalot": Project(needs=("cachalot",), apps=("cachalot",), settings={"CACHALOT_ENABLED": True}, is_short=True),
    "channels": Project(needs=("channels", "daphne"), settings={"CHANNEL_LAYERS": {}}, is_short=True),
    "debug_toolbar": Project(
        needs=("debug_toolbar",),
        apps=("debug_toolbar",),
        middleware=("debug_toolbar.middleware.DebugToolbarMiddleware",),
        settings={
            "DEBUG": True,
            "DEBUG_TOOLBAR_CONFIG": {
                "IS_RUNNING_TESTS": False,
                "SHOW_TOOLBAR_CALLBACK": "tests.neighbours.debug_toolbar.always",
            },
            "INTERNAL_IPS": ["127.0.0.1"],
        },
        is_short=True,
    ),
    "factory_boy": Project(needs=("factory",)),
    "guardian": Project(
        needs=("guardian",), apps=("guardian",), settings=backends("guardian.backends.ObjectPermissionBackend")
    ),
    "grappelli": Project(needs=("grappelli",), before=("grappelli",)),
    "hijack": Project(
        needs=("hijack",), apps=("hijack",), middleware=("hijack.middleware.HijackUserMiddleware",), is_short=True
    ),
    "import_export": Project(needs=("import_export",), apps=("import_export",)),
    "jazzmin": Project(needs=("jazzmin",), before=("jazzmin",)),
    "loginas": Project(needs=("loginas",), apps=("loginas",), is_short=True),
    "modeltranslation": Project(
        needs=("modeltranslation",),
        before=("modeltranslation",),
        settings={"LANGUAGES": [("en", "English"), ("de", "German")], "LANGUAGE_CODE": "en"},
    ),
    "mptt": Project(needs=("mptt",), apps=("mptt",)),
    "ninja": Project(needs=("ninja",), is_short=True),
    "no_admin": Project(
        only_apps=(
            "django_signal_audit",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "tests.neighbours.shop",
        ),
        only_middleware=(
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            AUDIT_MIDDLEWARE,
        ),
        is_short=True,
    ),
    "no_contrib": Project(
        only_apps=("django_signal_audit", "tests.neighbours.shop"),
        only_middleware=(AUDIT_MIDDLEWARE,),
        settings={"TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]},
        is_short=True,
    ),
    "polymorphic": Project(needs=("polymorphic",), apps=("polymorphic",)),
    "rest_framework": Project(
        needs=("rest_framework", "rest_framework_simplejwt", "drf_spectacular"),
        apps=("rest_framework", "rest_framework.authtoken", "drf_spectacular"),
        settings={
            "REST_FRAMEWORK": {
                "DEFAULT_AUTHENTICATION_CLASSES": [
                    "rest_framework.authentication.TokenAuthentication",
                    "rest_framework_simplejwt.authentication.JWTAuthentication",
                ],
                "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
                "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
            }
        },
        is_short=True,
    ),
    "tenants": tenants(audits_schemas=True),
    "tenants_shared": tenants(audits_schemas=False),
    "taggit": Project(needs=("taggit",), apps=("taggit",)),
    "unfold": Project(needs=("unfold",), before=("unfold",), is_short=True),
}

NAME = os.environ.get("AUDIT_NEIGHBOUR", "rest_framework")
PROJECT = PROJECTS[NAME]

SECRET_KEY = "neighbours, and long enough for the signatures of tokens"
USE_TZ = True
ROOT_URLCONF = "tests.neighbours.urls"
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": database(URL, f"_{NAME}")}
INSTALLED_APPS = list(PROJECT.only_apps) or [
    "django_signal_audit",
    *PROJECT.before,
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    *PROJECT.apps,
    "tests.neighbours.shop",
]
_MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    *PROJECT.middleware,
    AUDIT_MIDDLEWARE,
]
MIDDLEWARE = _MIDDLEWARE if PROJECT.only_middleware is None else list(PROJECT.only_middleware)
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
SIGNAL_AUDIT = {"RULES": [{"name": "shop", "model": "shop.*"}]}
globals().update(PROJECT.settings)
