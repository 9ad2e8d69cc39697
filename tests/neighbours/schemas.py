"""Tenants with a schema each, and what is in the tables of a schema."""

from __future__ import annotations

from django.core.management import call_command
from django.db import connection

from .company.models import Company, Domain

EVENTS = "django_signal_audit_auditevent"


def current_schema() -> str:
    """Return the tenant of what is written and read now."""
    return str(getattr(connection, "schema_name", ""))


def make_company(name: str) -> Company:
    """Create a tenant with its schema and tables."""
    # A request leaves the connection in the schema of its tenant.
    connection.set_schema_to_public()
    company = Company(schema_name=name, name=name)
    company.save(verbosity=0)
    # The apps of these tests have no migrations.
    call_command("migrate_schemas", schema_name=name, run_syncdb=True, interactive=False, verbosity=0)
    Domain.objects.create(tenant=company, domain=f"{name}.example.com", is_primary=True)
    return company


def tables_of(schema: str) -> set[str]:
    """Return the names of the tables in a schema."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", [schema])
        return {name for (name,) in cursor.fetchall()}


def told_in(schema: str) -> list[tuple[str, str, str]]:
    """Return model, type and text of the events in a schema's own table."""
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT model, event_type, object_repr FROM "{schema}".{EVENTS} ORDER BY id')
        return cursor.fetchall()
