"""The demo's own data: made afresh by every run, and nobody else's touched."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

OWN_TABLES = {"shop_product", "django_signal_audit_auditevent"}


def start_afresh() -> None:
    """Remove what an earlier run left behind and make an empty database.

    Raises:
        CommandError: The database is not the demo's, or the directories beside it may not be.

    """
    database = _own_database()
    _refuse_what_is_not_ours(database)
    connection.close()
    # The database goes last: while it is there, an interrupted run can tell its own directories.
    for directory in (settings.MEDIA_ROOT, settings.MAIL_DIRECTORY):
        shutil.rmtree(directory, ignore_errors=True)
    for suffix in ("-wal", "-shm", "-journal", ""):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    call_command("migrate", verbosity=0, interactive=False)


def _own_database() -> Path:
    own = getattr(settings, "SHOP_DIRECTORY", None)
    database = Path(str(connection.settings_dict["NAME"]))
    if own is None or connection.vendor != "sqlite" or database != own / "shop.sqlite3":
        msg = "The demo empties its database, so it runs only with the demo's own settings: testproject.settings."
        raise CommandError(msg)
    return database


def _refuse_what_is_not_ours(database: Path) -> None:
    tables = set(connection.introspection.table_names())
    others = settings.MEDIA_ROOT.exists() or settings.MAIL_DIRECTORY.exists()
    ours = tables >= OWN_TABLES if tables else not others
    if not ours:
        msg = (
            f"{database.parent} holds data that the demo did not make. "
            "Remove shop.sqlite3, media and mail there, or name another directory in SHOP_DIRECTORY."
        )
        raise CommandError(msg)
