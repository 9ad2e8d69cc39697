"""Our commands, in whichever project."""

from __future__ import annotations

from pathlib import Path

from django.core.management import call_command

from .shop.models import Product


def assert_commands_work(place: Path) -> None:
    """Run each command, with something to do."""
    product = Product.objects.create(name="Tea")
    product.price = 2
    product.save()
    call_command("check", fail_level="WARNING")
    call_command("makemigrations", check=True, dry_run=True)
    for by in ("model", "object", "event", "actor", "rule", "field", "day"):
        call_command("audit_report", by=[by])
    for name in ("table", "csv", "json", "jsonl", "markdown", "html"):
        call_command("audit_report", format=name, output=str(place / name))
    call_command("audit_history", "shop.product", str(product.pk))
    call_command("audit_history", "shop.product", str(product.pk), at="12h")
    call_command("audit_rules")
    call_command("audit_rules", explain=["shop.product", "update"])
    call_command("audit_export", format="jsonl")
    call_command("audit_baseline")
    call_command("audit_replay", check=True)
    call_command("audit_deliver", once=True)
    call_command("audit_prune", older_than="1y")
