"""Settings of a project that has the other packages, each recording a model of its own."""

from __future__ import annotations

from importlib.util import find_spec

from tests.databases import URL, database

SECRET_KEY = "importers"
USE_TZ = True
TIME_ZONE = "Europe/Vienna"
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": database(URL, "_importers")}
HAS_TRIGGERS = URL.startswith("postgresql")
INSTALLED_APPS = [
    "django_signal_audit",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "simple_history",
    "auditlog",
    "reversion",
    "easyaudit",
    "field_audit",
    *(["pghistory", "pgtrigger", "django.contrib.postgres"] if HAS_TRIGGERS else []),
    *(["wagtail", "taggit"] if find_spec("wagtail") else []),
    "tests.importers.shop",
]
# Tables are made in one go, as nothing is to be learned from the packages' migrations; pghistory's make functions.
MIGRATION_MODULES = {
    app.rpartition(".")[2].replace("wagtail", "wagtailcore"): None for app in INSTALLED_APPS if app != "pghistory"
}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "static/"
PGTRIGGER_INSTALL_ON_MIGRATE = True
DJANGO_EASY_AUDIT_REGISTERED_CLASSES = ["shop.EasyAudited"]
DJANGO_EASY_AUDIT_WATCH_AUTH_EVENTS = True
DJANGO_EASY_AUDIT_WATCH_REQUEST_EVENTS = False
TEST = True  # django-easy-audit writes at once then, not after the commit
FIELD_AUDIT_ENABLED = True
WAGTAIL_SITE_NAME = "importers"
WAGTAILADMIN_BASE_URL = "https://shop.example"
SILENCED_SYSTEM_CHECKS = ["mysql.W003"]
