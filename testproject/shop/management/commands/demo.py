"""manage.py demo: twenty years of prices through the shop, then the reports."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db.models import Count
from tqdm import tqdm

from django_signal_audit.enums import Source
from django_signal_audit.models import AuditEvent, Notification
from testproject.shop.demo.directory import start_afresh
from testproject.shop.demo.people import LOGIN, PASSWORD, make_people
from testproject.shop.demo.prices import FIRST, LAST, read_months
from testproject.shop.demo.replay import discontinue, live_through, open_shop, reprice
from testproject.shop.models import ProductImage

REPORTS = ("--by event", "--by object --model shop.Product --event update", "--by actor")
PAGES = f"""
To look around: make serve
  http://127.0.0.1:8000/         the shop
  http://127.0.0.1:8000/admin/   its admin and the audit log; log in as {LOGIN} with the password {PASSWORD}
"""


class Command(BaseCommand):
    help = "Replays twenty years of commodity prices in the demo shop and reports what the audit recorded."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--until", default=LAST, metavar="MONTH", help=f"the last month to replay: {LAST}")

    def handle(self, *args: Any, **options: Any) -> None:
        start_afresh()
        self.stdout.write(f"Replaying the prices of {FIRST} to {options['until']} in the demo shop.")
        self.stdout.write("The clock is set to each month in turn. The bulk repricing and the deletion happen now.")
        self.replay(options["until"])
        self.report_notifications()
        for arguments in REPORTS:
            self.stdout.write(f"\nmanage.py audit_report {arguments}\n")
            call_command("audit_report", *arguments.split(), stdout=self.stdout)
        self.stdout.write(PAGES)

    def replay(self, until: str) -> None:
        people, months = make_people(), read_months(until)
        buyer = people.buyers[0]
        open_shop(months, buyer)
        # disable=None: a bar on a terminal, nothing in a pipe.
        live_through(tqdm(months[1:], desc="Months", unit="month", disable=None), people)
        self.report_bulk(reprice(buyer))
        images = ProductImage.objects.count()
        discontinue(buyer)
        gone = images - ProductImage.objects.count()
        self.stdout.write(
            f"Deleted one product. Its {gone} images were deleted by cascade, and one message deleted their files."
        )

    def report_bulk(self, rows: int) -> None:
        events = AuditEvent.objects.filter(source=Source.BULK).count()
        self.stdout.write(f"Repriced {rows} products in one bulk call; {events} events were recorded for it.")

    def report_notifications(self) -> None:
        if Notification.objects.filter(status=Notification.STATUS.pending).exists():
            # A commit sends for two seconds at most; the rest is for a worker.
            call_command("audit_deliver", stdout=self.stdout)
        self.stdout.write("\nNotifications by rule, channel and status\n")
        groups = Notification.objects.order_by().values_list("rule", "channel", "status").annotate(Count("pk"))
        for rule, channel, status, count in groups.order_by("rule", "status"):
            self.stdout.write(f"  {rule:12} {channel:14} {status:9} {count:6}")
