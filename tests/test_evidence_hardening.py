"""Hardening: the application's role can only add to the audit log, and everything else works as before."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from django_signal_audit.checks import check_evidence
from django_signal_audit.evidence.hardening import statements
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf, AuditPrune, AuditReceipt
from django_signal_audit.models.guards import guarded_tables

from .app.models import Category
from .conftest import Audit
from .samples import make_event

# MariaDB ends a transaction at each statement that makes a trigger.
pytestmark = pytest.mark.django_db(transaction=True)
has_roles = pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no roles")


def harden(*arguments: str) -> str:
    out = io.StringIO()
    call_command("audit_harden", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def role_name() -> str:
    """Return the name of a role of this process: servers have one list of roles for all databases."""
    return f"dsa_{connection.settings_dict['NAME']}"


def sql(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def hardened(audit: Audit) -> Iterator[None]:
    audit(EVIDENCE={"INTERVAL": "60s"})
    harden("--apply")
    yield
    harden("--apply", "--remove")


@pytest.fixture
def role(audit: Audit) -> Iterator[str]:
    """Make a role, and harden for it."""
    audit(EVIDENCE={"INTERVAL": "60s"})
    kind, name = "USER" if connection.vendor == "mysql" else "ROLE", role_name()
    sql(f"CREATE {kind} {name}")
    harden("--apply", "--role", name)
    yield name
    harden("--apply", "--remove")
    if kind == "ROLE":
        sql(f"DROP OWNED BY {name}")
    sql(f"DROP {kind} {name}")


def found() -> list[str]:
    return [message.id.rpartition(".")[2] for message in check_evidence(databases=["default"])]


def test_it_prints_and_changes_nothing(audit: Audit) -> None:
    audit()
    text = harden()
    assert text.count("CREATE TRIGGER") == (3 if connection.vendor == "sqlite" else 2) * len(guarded_tables())
    assert all(line.endswith(";") for line in text.splitlines())
    make_event()
    sql(f"DELETE FROM {AuditEvent._meta.db_table}")


@pytest.mark.parametrize("model", [AuditEvent, AuditLeaf, AuditCheckpoint, AuditPrune])
def test_nothing_is_changed_or_deleted_by_sql(hardened: None, model: Any) -> None:
    make_event()
    seal("default")
    AuditEvent.objects.prune()
    table, column = model._meta.db_table, connection.ops.quote_name(model._meta.pk.column)
    for statement in (f"UPDATE {table} SET {column} = {column} + 1000", f"DELETE FROM {table}"):
        with pytest.raises(DatabaseError, match="only added to"):
            sql(statement)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="elsewhere a row that is replaced is deleted first")
@pytest.mark.parametrize("model", [AuditEvent, AuditLeaf, AuditCheckpoint, AuditReceipt, AuditPrune])
def test_nothing_is_replaced_by_what_is_inserted(hardened: None, model: Any) -> None:
    make_event()
    seal("default")
    AuditReceipt.objects.create(size=1, anchor="a")
    AuditPrune.objects.create(event=AuditEvent.objects.get().uid, ranges="[]")
    quote = connection.ops.quote_name
    names = [field.column for field in model._meta.local_fields]
    keys = [field.column for field in model._meta.local_fields if field.unique]
    for kept in keys:
        # All that is unique is another one but this: the row would take the place of the one that is there.
        columns = [f"{quote(name)} || 7" if name in keys and name != kept else quote(name) for name in names]
        insert = f"INSERT OR REPLACE INTO {model._meta.db_table} ({', '.join(map(quote, names))})"
        with pytest.raises(DatabaseError, match="only added to"):
            sql(f"{insert} SELECT {', '.join(columns)} FROM {model._meta.db_table}")
    assert model.objects.count() == 1


def test_a_hardened_database_takes_events_with_negative_ids(hardened: None) -> None:
    for number in (-1, -2, None, None):
        make_event(**({"id": number} if number else {}))
    assert AuditEvent.objects.count() == 4


@pytest.mark.skipif(connection.vendor != "postgresql", reason="the tables of others have no partitions")
def test_partitions_are_only_added_to_by_their_own_names(audit: Audit, role: str) -> None:
    table = AuditCheckpoint._meta.db_table
    sql(f"ALTER TABLE {table} RENAME TO before_partitions")
    sql(f"CREATE TABLE {table} (LIKE before_partitions INCLUDING DEFAULTS) PARTITION BY RANGE (size)")
    sql(f"CREATE TABLE dsa_some PARTITION OF {table} FOR VALUES FROM (0) TO (9999)")
    try:
        seal_one()
        with acting_as(role):
            sql("RESET ROLE")
            sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON dsa_some, {table} TO {role}")
            sql(f"SET ROLE {role}")
            assert found() == ["W068"]
        harden("--apply", "--role", role)
        with pytest.raises(DatabaseError, match="only added to"):
            sql("DELETE FROM dsa_some")
        with acting_as(role):
            assert found() == []
            for name in ("dsa_some", table):
                with pytest.raises(DatabaseError, match="permission denied"):
                    sql(f"UPDATE {name} SET size = size + 1000")
            seal_one()
        assert AuditCheckpoint.objects.count() == 2
    finally:
        sql(f"DROP TABLE {table}")
        sql(f"ALTER TABLE before_partitions RENAME TO {table}")


def seal_one() -> None:
    make_event(recorded_at=timezone.now())
    assert seal("default").sealed == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="no other database lets one role become another")
def test_checks_name_a_role_that_may_become_the_owner(role: str) -> None:
    owner = f"{role}_owner"
    sql(f"CREATE ROLE {owner}")
    try:
        sql(f"ALTER TABLE {AuditLeaf._meta.db_table} OWNER TO {owner}")
        with acting_as(role):
            assert found() == []
        sql(f"ALTER ROLE {role} NOINHERIT")
        sql(f"GRANT {owner} TO {role}")
        with acting_as(role):
            assert found() == ["W068"]
    finally:
        sql(f"ALTER TABLE {AuditLeaf._meta.db_table} OWNER TO CURRENT_USER")
        sql(f"DROP ROLE {owner}")


def test_recording_sealing_pruning_and_erasing_go_on(hardened: None) -> None:
    user = User.objects.create(username="ada")
    category = Category.objects.create(name="a")
    category.name = "b"
    category.save()
    make_event(recorded_at=timezone.now(), object_id=str(user.pk), model="auth.user", object_repr="ada")
    seal("default")
    assert AuditEvent.objects.filter(model="app.category").prune() == 2
    call_command("audit_erase", "--subject", "auth.User", str(user.pk), "--skip-checks", stdout=io.StringIO())
    assert not AuditEvent.objects.filter(object_repr="ada").exists()
    assert list(Verifier("default").findings()) == []
    with pytest.raises(DatabaseError, match="only added to"):
        sql(f"DELETE FROM {AuditEvent._meta.db_table}")


def test_what_was_hardened_can_be_hardened_again_and_undone(hardened: None) -> None:
    harden("--apply")
    make_event()
    harden("--apply", "--remove")
    sql(f"DELETE FROM {AuditEvent._meta.db_table}")
    assert not AuditEvent.objects.exists()


def test_flush_empties_the_tables_where_nobody_hardened_them(audit: Audit) -> None:
    audit()
    make_event()
    call_command("flush", "--no-input", verbosity=0)
    assert not AuditEvent.objects.exists()


@contextmanager
def acting_as(role: str) -> Iterator[None]:
    if connection.vendor == "postgresql":
        sql(f"SET ROLE {role}")
        yield
        sql("RESET ROLE")
        return
    user, connection.settings_dict["USER"] = connection.settings_dict["USER"], role
    connection.close()
    yield
    connection.settings_dict["USER"] = user
    connection.close()


@has_roles
class TestRole:
    @pytest.fixture(autouse=True)
    def as_role(self, role: str) -> Iterator[None]:
        """Be the role in the test."""
        make_event(recorded_at=timezone.now())
        seal("default")
        with acting_as(role):
            yield

    def test_it_records_and_seals(self) -> None:
        Category.objects.create(name="a").delete()
        assert seal("default").sealed == 2
        assert list(Verifier("default").findings()) == []

    @pytest.mark.parametrize("model", [AuditEvent, AuditLeaf, AuditCheckpoint, AuditPrune, AuditReceipt])
    def test_it_changes_and_deletes_nothing(self, model: Any) -> None:
        table, column = model._meta.db_table, connection.ops.quote_name(model._meta.pk.column)
        allow = "SET @dsa_allows = 1" if connection.vendor == "mysql" else "SET django_signal_audit.allows = 'on'"
        sql(allow)
        for statement in (
            f"UPDATE {table} SET {column} = {column} + 1000",
            f"DELETE FROM {table}",
            f"TRUNCATE TABLE {table}",
            f"DROP TABLE {table}",
        ):
            with pytest.raises(DatabaseError, match=r"denied|must be owner"):
                sql(statement)
        # A pool gives the connection to the next test.
        sql(allow.replace("1", "NULL") if connection.vendor == "mysql" else "RESET django_signal_audit.allows")

    def test_no_check_complains_of_it(self) -> None:
        assert found() == []


def test_checks_name_a_database_that_is_not_hardened_and_a_seal_that_is_late(audit: Audit) -> None:
    audit()
    make_event(recorded_at=timezone.now())
    assert found() == []
    audit(EVIDENCE={"INTERVAL": "60s"})
    assert found() == ["W068"]
    make_event()
    assert found() == ["W068", "W069"]
    seal("default")
    assert found() == ["W068"]


@has_roles
@pytest.mark.parametrize("model", [AuditEvent, AuditLeaf, AuditCheckpoint])
@pytest.mark.parametrize("right", ["UPDATE", "DELETE", "UPDATE ({column})"])
def test_checks_name_a_role_that_may_change_any_of_what_is_only_added_to(role: str, model: Any, right: str) -> None:
    column = connection.ops.quote_name(model._meta.pk.column)
    sql(f"GRANT {right.format(column=column)} ON {model._meta.db_table} TO {role}")
    with acting_as(role):
        rights = found()
    assert rights == ["W068"]


@has_roles
@pytest.mark.parametrize("right", ["UPDATE", "DELETE"])
def test_checks_name_a_role_that_may_change_the_log_as_a_member_of_another(role: str, right: str) -> None:
    group = f"{role}_group"
    sql(f"CREATE ROLE {group}")
    sql(f"GRANT {right} ON {AuditLeaf._meta.db_table} TO {group}")
    sql(f"GRANT {group} TO {role}")
    if connection.vendor == "mysql":
        sql(f"SET DEFAULT ROLE {group} FOR {role}")
    with acting_as(role):
        rights = found()
    if connection.vendor == "postgresql":
        sql(f"DROP OWNED BY {group}")
    sql(f"DROP ROLE {group}")
    assert rights == ["W068"]


@pytest.mark.skipif(connection.vendor != "mysql", reason="elsewhere a role has no rights on all tables of a database")
@pytest.mark.parametrize("where", ["{database}.*", "{database}.{table}"])
def test_what_a_role_had_before_is_taken_from_it_by_an_owner_who_does_not_see_it(role: str, where: str) -> None:
    """Only administrators see the rights of others."""
    database, owner = connection.ops.quote_name(str(connection.settings_dict["NAME"])), f"{role}_owner"
    for table in (AuditEvent._meta.db_table, AuditLeaf._meta.db_table):
        sql(f"GRANT UPDATE, DELETE, DROP ON {where.format(database=database, table=table)} TO {role}")
    sql(f"CREATE USER {owner}")
    sql(f"GRANT ALL ON {database}.* TO {owner} WITH GRANT OPTION")
    with acting_as(owner):
        harden("--apply", "--role", role)
    with acting_as(role):
        rights = found()
    sql(f"DROP USER {owner}")
    assert rights == []


def test_checks_name_a_sqlite_database_that_lacks_some_of_the_triggers(hardened: None) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("elsewhere the rights of the role are asked for")
    assert found() == []
    sql("DROP TRIGGER dsa_guard_auditleaf_update")
    assert found() == ["W068"]


@pytest.mark.parametrize("name", ["x; DROP", "x'y", "a b", "@"])
def test_what_is_no_role_is_one_line_and_2(name: str) -> None:
    with pytest.raises(CommandError) as error:
        harden("--role", name)
    assert error.value.returncode == 2


@pytest.mark.skipif(connection.vendor != "mysql", reason="PostgreSQL changes all rights in one transaction")
@pytest.mark.django_db
def test_a_role_at_work_is_never_without_a_right_that_it_keeps() -> None:
    """On MariaDB each statement counts at once, and the command may run a second time beside the application."""
    given = [sql for sql in statements("default", "app") if sql.startswith(("GRANT", "REVOKE"))]
    for table in guarded_tables():
        grant, revoke = (sql for sql in given if f".`{table}`" in sql)
        assert grant.startswith("GRANT SELECT, INSERT ON")
        assert revoke.startswith("REVOKE ")
        assert "INSERT" not in revoke
        assert "SELECT" not in revoke
    assert given[-1].startswith("REVOKE ALL PRIVILEGES ON")
    assert given[-1].endswith(".* FROM 'app'@'%'")
