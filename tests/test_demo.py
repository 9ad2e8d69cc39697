"""The demo shop, run as a newcomer runs it and counted against the file it replays."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from decimal import Decimal
from email import message_from_bytes
from email.policy import default as email_policy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from .conftest import has_files_of_its_own
from .processes.stage import choose

pytestmark = [pytest.mark.slow, has_files_of_its_own]
ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "testproject" / "shop" / "data" / "commodity_prices.csv"
# Three years of prices, or all twenty.
YEARS = choose(3, 20)
UNTIL = f"{2002 + YEARS}-12"
SEPARATOR = b"\n" + b"-" * 79 + b"\n"


def python(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("DJANGO_", "AUDIT_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**inherited, "SHOP_DIRECTORY": str(directory), "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def manage(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return python(directory, str(ROOT / "testproject" / "manage.py"), *arguments, **environment)


class Demo:
    """What a run left behind, read without the package."""

    def __init__(self, directory: Path, output: subprocess.CompletedProcess[str]) -> None:
        self.directory = directory
        self.output = output

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.directory / "shop.sqlite3")) as connection:
            return connection.execute(query).fetchall()

    def products(self) -> dict[str, tuple[str, str]]:
        """Return the series and name of every product there ever was, by its key, from the events of creation."""
        events = self.rows(
            "SELECT object_id, changes FROM django_signal_audit_auditevent"
            " WHERE model = 'shop.product' AND event_type = 'create'"
        )
        created = {key: json.loads(changes) for key, changes in events}
        return {key: (new["sku"][1].replace("-", "_"), new["name"][1]) for key, new in created.items()}

    def subjects(self) -> list[str]:
        contents = b"".join(path.read_bytes() for path in (self.directory / "mail").iterdir())
        mails = [part for part in contents.split(SEPARATOR) if part]
        return [message_from_bytes(mail, policy=email_policy)["Subject"] for mail in mails]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    directory = tmp_path_factory.mktemp("demo")
    # What an earlier run left must be gone afterwards.
    assert manage(directory, "migrate", "--verbosity", "0").returncode == 0
    assert manage(directory, "demo_login").returncode == 0
    for name in ("mail", "media"):
        (directory / name).mkdir()
        (directory / name / "earlier").write_text("Subject: from an earlier run\n\n")
    return Demo(directory, manage(directory, "demo", "--until", UNTIL))


@pytest.fixture(scope="module")
def steps() -> dict[str, list[tuple[Decimal, Decimal]]]:
    """Return, by series, the steps from each month's price to the next one's."""
    with SOURCE.open(newline="") as lines:
        months = [row for row in csv.DictReader(lines) if "2003-01" <= row["month"] <= UNTIL]
    assert len(months) == YEARS * 12
    return {
        series: list(pairwise(Decimal(month[series]).quantize(Decimal("0.0001")) for month in months))
        for series in months[0]
        if series != "month"
    }


def test_it_ends_well_and_tells_where_to_look(demo: Demo) -> None:
    assert demo.output.returncode == 0, demo.output.stderr
    for line in ("--by event", "--by object", "--by actor", "make serve"):
        assert line in demo.output.stdout


def test_no_progress_bar_and_no_warning_in_a_pipe(demo: Demo) -> None:
    assert demo.output.stderr == ""
    assert "\r" not in demo.output.stdout


def test_recorded_updates_are_the_price_changes_of_the_file(
    demo: Demo, steps: dict[str, list[tuple[Decimal, Decimal]]]
) -> None:
    recorded: dict[str, list[tuple[Decimal, Decimal]]] = {series: [] for series in steps}
    products = demo.products()
    events = demo.rows(
        "SELECT object_id, changes FROM django_signal_audit_auditevent"
        " WHERE model = 'shop.product' AND event_type = 'update' AND source = 'orm' ORDER BY id"
    )
    for key, changes in events:
        assert list(json.loads(changes)) == ["price"]
        old, new = json.loads(changes)["price"]
        recorded[products[key][0]].append((Decimal(old), Decimal(new)))

    assert recorded == {series: [step for step in pairs if step[0] != step[1]] for series, pairs in steps.items()}


def test_every_fall_and_nothing_else_sent_a_price_drop_mail(
    demo: Demo, steps: dict[str, list[tuple[Decimal, Decimal]]]
) -> None:
    names = dict(demo.products().values())
    expected = Counter(
        f"{names[series]} dropped from {old} to {new}"
        for series, pairs in steps.items()
        for old, new in pairs
        if new < old
    )
    subjects = demo.subjects()

    assert Counter(subject for subject in subjects if "dropped" in subject) == expected
    assert Counter(subject.split(":")[0] for subject in subjects if "dropped" not in subject) == {"New product": 10}
    statuses = demo.rows("SELECT DISTINCT status FROM django_signal_audit_notification")
    assert statuses == [("sent",)]


def test_buyers_are_the_actors_and_say_why(demo: Demo) -> None:
    rows = demo.rows(
        "SELECT actor_repr, json_extract(context, '$.reason') FROM django_signal_audit_auditevent"
        " WHERE model = 'shop.product' AND event_type = 'update' AND source = 'orm'"
    )
    assert {actor for actor, _ in rows} == {"bruno", "carla"}
    assert {reason.split(" of ")[0] for _, reason in rows} == {"Market prices"}


def test_each_price_is_recorded_in_the_month_it_belongs_to(demo: Demo) -> None:
    events = demo.rows(
        "SELECT recorded_at, json_extract(context, '$.reason') FROM django_signal_audit_auditevent"
        " WHERE model = 'shop.product' AND event_type = 'update' AND source = 'orm'"
    )
    months = {reason.removeprefix("Market prices of ") for _, reason in events}

    assert len(months) == YEARS * 12 - 1
    assert {recorded_at[:7] == reason.removeprefix("Market prices of ") for recorded_at, reason in events} == {True}
    # Times never run backwards in the order of the ids.
    times = [
        recorded_at
        for (recorded_at,) in demo.rows("SELECT recorded_at FROM django_signal_audit_auditevent ORDER BY id")
    ]
    assert times == sorted(times)


def test_the_bulk_repricing_is_recorded_row_by_row(demo: Demo) -> None:
    events = demo.rows(
        "SELECT object_repr, changes FROM django_signal_audit_auditevent WHERE source = 'bulk' ORDER BY object_repr"
    )
    prices = dict(demo.rows("SELECT name, price FROM shop_product"))

    assert [name for name, _ in events] == ["Arabica coffee", "Robusta coffee"]
    for name, changes in events:
        old, new = map(Decimal, json.loads(changes)["price"])
        assert new == round(old * Decimal("1.05"), 4)
        assert new == Decimal(str(prices[name]))


def test_views_are_recorded_with_the_viewer_and_counted(demo: Demo) -> None:
    events = demo.rows(
        "SELECT object_id, actor_repr, json_extract(context, '$.request.path')"
        " FROM django_signal_audit_auditevent WHERE event_type = 'product_viewed'"
    )
    viewed = Counter(key for key, _, _ in events)
    counted = {str(key): views for key, views in demo.rows("SELECT id, views FROM shop_product")}

    assert len(events) == YEARS * 12 - 1
    assert {actor for _, actor, _ in events} == {"vera", "viktor", ""}
    assert counted == {key: viewed[key] for key in counted}
    assert len(counted) == 9


def test_a_deleted_product_takes_its_images_and_their_files_along(demo: Demo) -> None:
    deleted = demo.rows(
        "SELECT model, source, changes FROM django_signal_audit_auditevent WHERE event_type = 'delete' ORDER BY model"
    )
    media = demo.directory / "media"
    kept = {file for (file,) in demo.rows("SELECT file FROM shop_productimage")}
    gone = {json.loads(changes)["file"][0] for model, _, changes in deleted if model == "shop.productimage"}

    assert [row[:2] for row in deleted] == [
        ("shop.product", "orm"),
        ("shop.productimage", "cascade"),
        ("shop.productimage", "cascade"),
    ]
    assert len(gone) == 2
    assert {path.relative_to(media).as_posix() for path in media.rglob("*") if path.is_file()} == kept
    assert len(kept) == 18
    assert not kept & gone


PAGES = """
import django
django.setup()
from django.test import Client
for path in ("/", "/products/oil-brent/", "/admin/", "/admin/shop/product/"):
    client = Client(SERVER_NAME="localhost")
    if path.startswith("/admin"):
        assert client.login(username="demo", password="demo")
    page = client.get(path)
    assert page.status_code == 200, path
    if not path.startswith("/admin"):
        html = page.content.decode()
        assert "<style" not in html and "style=" not in html and "<script" not in html
        assert "shop.css" in html and "/media/products/oil-brent" in html
print("open")
"""


def test_the_pages_open(demo: Demo, tmp_path: Path) -> None:
    # A copy, for looking at a product is an event.
    copy = shutil.copytree(demo.directory, tmp_path / "shop")
    # A worker sends nothing from a copy that nobody has confirmed.
    manage(copy, "audit_deliver", "--confirm-database")
    done = python(copy, "-c", PAGES, DJANGO_SETTINGS_MODULE="testproject.settings")
    assert (done.stdout, done.stderr) == ("open\n", "")


class TestItTouchesNothingOfOthers:
    def test_directories_without_the_demos_database(self, tmp_path: Path) -> None:
        letter = tmp_path / "mail" / "letter"
        letter.parent.mkdir()
        letter.write_text("mine")
        done = manage(tmp_path, "demo")
        assert done.returncode == 1
        assert "holds data that the demo did not make" in done.stderr
        assert letter.read_text() == "mine"

    def test_a_database_of_something_else(self, tmp_path: Path) -> None:
        make_precious(tmp_path / "shop.sqlite3")
        done = manage(tmp_path, "demo")
        assert done.returncode == 1
        assert "holds data that the demo did not make" in done.stderr
        assert tables(tmp_path / "shop.sqlite3") == ["precious"]

    def test_another_projects_settings(self, tmp_path: Path) -> None:
        make_precious(tmp_path / "mine.sqlite3")
        (tmp_path / "mine.py").write_text(
            "from testproject.settings import *\nDATABASES['default']['NAME'] = SHOP_DIRECTORY / 'mine.sqlite3'\n"
        )
        path = os.pathsep.join((str(ROOT), str(tmp_path)))
        done = manage(tmp_path, "demo", DJANGO_SETTINGS_MODULE="mine", PYTHONPATH=path)
        assert done.returncode == 1
        assert "runs only with the demo's own settings" in done.stderr
        assert tables(tmp_path / "mine.sqlite3") == ["precious"]


def make_precious(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE precious (id)")


def tables(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
