from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Run
from .ours import Ours

if TYPE_CHECKING:
    from django_signal_audit.events.insert import EventRow


class Floor(Ours):
    """What our trail costs before any of it is worked out: a transaction, and finished events written into our table.

    Nothing is compared, matched or described, and no old value is read. The rows are ready before the clock starts.
    """

    name = "floor: finished events"
    settings = {"SIGNAL_AUDIT": {}}

    def around(self, run: Run) -> Run:
        """Return the operation with the INSERT of its events, in one transaction."""
        from django.db import transaction

        from benchmarks.operations import BULK
        from django_signal_audit.events.insert import insert_row, insert_rows
        from django_signal_audit.events.keys import new_uid

        rows = _rows(BULK)

        def with_events(subject: Any) -> None:
            # One row is a pair, a key, a dict or an object; many are a list or a queryset.
            is_bulk = isinstance(subject, list) or hasattr(subject, "query")
            with transaction.atomic():
                run(subject)
                if is_bulk:
                    insert_rows(rows, "default")
                else:
                    insert_row(rows[0]._replace(uid=new_uid()), "default")

        return with_events


def _rows(number: int) -> list[EventRow]:
    import datetime as dt

    from django_signal_audit.events.insert import EventRow
    from django_signal_audit.events.keys import new_uids

    uids = new_uids()
    changes: dict[str, Any] = {f"field {position}": [None, "a value of usual length"] for position in range(12)}
    now = dt.datetime.now(dt.UTC)
    return [
        EventRow(
            uid, now, "create", "orm", "info", ["products"], "shop.product", str(key), f"Product {key}", "", "",
            changes, {}, {}, str(uid), 1, "",
        )
        for key, uid in enumerate((next(uids) for _ in range(number)), 1)
    ]  # fmt: skip
