"""Settings of the test suite."""

from __future__ import annotations

from .databases import DATABASES as DATABASES
from .databases import URL

SECRET_KEY = "tests"
USE_TZ = True
TIME_ZONE = "Europe/Vienna"
ROOT_URLCONF = "tests.urls"
INSTALLED_APPS = [
    "django_signal_audit",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_tasks_db",
    "tests.app",
    "tests.columns",
    "tests.recorded",
    "tests.vault",
    "testproject.shop",
]
if URL.startswith("postgresql"):
    INSTALLED_APPS.append("django.contrib.postgres")  # Django 6.1 wants it for the array fields of tests.columns
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_signal_audit.middleware.AuditMiddleware",
]
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
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
# Here and not in the tests: decorators of drf-spectacular ask for it when the views are imported.
REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
# The test app has no migrations, and its tables refer to these apps' tables: all are made in one go.
MIGRATION_MODULES = dict.fromkeys(["admin", "auth", "contenttypes", "django_tasks_database", "sessions"])
# MariaDB warns of a long text as primary key, which the tests have on purpose; commands would print that each time.
SILENCED_SYSTEM_CHECKS = ["mysql.W003"]
