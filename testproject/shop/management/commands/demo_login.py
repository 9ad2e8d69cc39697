"""manage.py demo_login: the superuser that looks at the demo."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from testproject.shop.demo.people import LOGIN, PASSWORD, make_login


class Command(BaseCommand):
    help = "Makes the superuser of the demo and prints its login. For this machine only: the password is public."

    def handle(self, *args: Any, **options: Any) -> None:
        make_login()
        self.stdout.write(f"Log in as {LOGIN} with the password {PASSWORD}.")
