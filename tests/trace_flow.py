"""Print the way of one price change through the package, from ``save()`` to the sent mail.

``python -m tests.trace_flow`` prints how many calls, files and changes of file there are; ``--calls`` prints each call.
The demo's rules are in force, caches are warm, and the default dispatcher sends the mail after the commit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = str(ROOT / "django_signal_audit") + os.sep


@dataclass
class Flow:
    """The functions of the package that were called, in order, each with its file and its depth."""

    calls: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def files(self) -> set[str]:
        """Return the files of the package that had a part in it."""
        return {file for _, file, _ in self.calls}

    @property
    def changes_of_file(self) -> int:
        """Return how often a reader who follows the calls in order turns to another file."""
        files = [file for _, file, _ in self.calls]
        return sum(1 for one, other in pairwise(["", *files]) if one != other)


def traced(action: Callable[[], Any]) -> Flow:
    """Return the way of an action through the package."""
    flow, depth = Flow(), 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal depth
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(PACKAGE):
            return
        if event == "call":
            flow.calls.append((depth, code.co_filename.removeprefix(PACKAGE), code.co_qualname))
        depth += 1 if event == "call" else -1

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return flow


def price_change() -> Flow:
    """Return the way of a price that drops, in a database that is made for it."""
    from django.core import mail
    from django.test.utils import override_settings, setup_databases, setup_test_environment

    from testproject import settings as demo
    from testproject.shop.models import Category, Product

    setup_test_environment()
    setup_databases(verbosity=0, interactive=False)
    with override_settings(SIGNAL_AUDIT=demo.SIGNAL_AUDIT):
        category = Category.objects.create(name="Coffee")
        product = Product.objects.create(sku="arabica", name="Arabica", category=category, price=Decimal(10), stock=1)
        for price in (Decimal(9), Decimal(8)):  # the first one warms the caches
            product.price = price
            mail.outbox.clear()
            flow = traced(product.save)
        assert [message.subject for message in mail.outbox] == ["Arabica dropped from 9.0000 to 8.0000"]
    return flow


def main() -> None:
    """Print the figures, and with ``--calls`` every call."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    flow = price_change()
    if "--calls" in sys.argv:
        for depth, file, name in flow.calls:
            sys.stdout.write(f"{'  ' * depth}{file}: {name}\n")
    back = flow.changes_of_file - len(flow.files)
    figures = f"{len(flow.calls)} calls, {len(flow.files)} files, {flow.changes_of_file} changes of file"
    sys.stdout.write(f"{figures}, {back} of them back\n")


if __name__ == "__main__":
    main()
