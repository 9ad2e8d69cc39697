"""Settings of the demo: a small shop whose changes are audited.

Its data (database, images, mails) lies beside this file, or in the existing directory that SHOP_DIRECTORY names.
"""

from __future__ import annotations

import os
from pathlib import Path

import django

BASE_DIR = Path(__file__).resolve().parent
SHOP_DIRECTORY = Path(os.environ.get("SHOP_DIRECTORY", BASE_DIR)).resolve()

# For a development server on this machine only.
SECRET_KEY = "the demo shop keeps no secrets"
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "django_signal_audit",  # before the admin: it adds history links
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "testproject.shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_signal_audit.middleware.AuditMiddleware",
]
ROOT_URLCONF = "testproject.urls"
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
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": SHOP_DIRECTORY / "shop.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
MEDIA_URL = "media/"
MEDIA_ROOT = SHOP_DIRECTORY / "media"
LOGIN_URL = "admin:login"

# Every mail is a file. Django 6.1 names the mailers in one dict and deprecates the older settings.
MAIL_DIRECTORY = SHOP_DIRECTORY / "mail"
MAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
DEFAULT_FROM_EMAIL = "shop@example.com"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": MAIL_BACKEND, "OPTIONS": {"file_path": MAIL_DIRECTORY}}}
else:
    EMAIL_BACKEND = MAIL_BACKEND
    EMAIL_FILE_PATH = MAIL_DIRECTORY

SIGNAL_AUDIT = {
    "RULES": [
        # Kept silently. A view count says nothing that the views' own events do not say better, and the time of the
        # last save changes with every save: with it, a save that changes nothing else would be an event.
        {"name": "products", "model": "shop.Product", "exclude": ["views", "modified"]},
        {"name": "catalogue", "model": ["shop.ProductImage", "shop.Category", "shop.Tag"]},
        # 1. A mail for every new product, and a message to the superusers.
        {
            "name": "new-product",
            "model": "shop.Product",
            "events": ["create"],
            "fields": ["name", "price"],
            "notify": ["team-mail", "inbox"],
            "subject": "New product: {{ object }} at {{ new.price }}",
        },
        # 2. A mail for every price that falls, with the old and the new one.
        {
            "name": "price-drop",
            "model": "shop.Product",
            "events": ["update"],
            "fields": ["price"],
            "when": {"price": "decreased"},
            "notify": ["team-mail"],
            "subject": "{{ object }} dropped from {{ old.price }} to {{ new.price }}",
        },
        # 3. A deleted image takes its file along, also when it goes with its product.
        {"name": "images-gone", "model": "shop.ProductImage", "events": ["delete"], "notify": ["delete-files"]},
        # 4. A view is recorded with its viewer, and counted.
        {
            "name": "viewed",
            "signal": "testproject.shop.signals.product_viewed",
            "event": "product_viewed",
            "notify": ["count-view"],
        },
    ],
    "CHANNELS": {
        "team-mail": {
            "BACKEND": "django_signal_audit.channels.email.EmailChannel",
            "OPTIONS": {"to": ["team@example.com"]},
        },
        # Shown at /inbox/.
        "inbox": {
            "BACKEND": "django_signal_audit.channels.inbox.InboxChannel",
            "OPTIONS": {"to": ["superusers"]},
        },
        "delete-files": {
            "BACKEND": "django_signal_audit.channels.callable.CallableChannel",
            "OPTIONS": {"target": "django_signal_audit.reactions.delete_files"},
        },
        "count-view": {
            "BACKEND": "django_signal_audit.channels.callable.CallableChannel",
            "OPTIONS": {"target": "testproject.shop.reactions.count_view"},
        },
    },
}
