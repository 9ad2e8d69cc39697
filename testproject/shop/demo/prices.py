"""The prices the demo replays, read from the committed file."""

from __future__ import annotations

import csv
import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "data" / "commodity_prices.csv"
FIRST, LAST = "2003-01", "2022-12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """The prices of one month by the name of their series."""

    name: str
    prices: dict[str, Decimal]

    @property
    def start(self) -> dt.datetime:
        """Return when the buyers begin to set this month's prices: at nine (UTC) on its first day."""
        return dt.datetime.fromisoformat(f"{self.name}-01T09:00:00+00:00")


def read_months(until: str = LAST) -> list[Month]:
    """Return the months from FIRST on, in order."""
    with SOURCE.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if FIRST <= row["month"] <= until]
    return [Month(name=row.pop("month"), prices={key: Decimal(text) for key, text in row.items()}) for row in rows]
