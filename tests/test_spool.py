"""Rows that a bulk call has read, between its reading and its recording."""

from __future__ import annotations

import tempfile

import pytest

from django_signal_audit.capture import images

from .app.models import Product
from .conftest import Audit, events

pytestmark = pytest.mark.django_db


@pytest.fixture
def written(monkeypatch) -> list[bytes]:
    """Return what is written to temporary files."""
    found: list[bytes] = []

    def make(*args, **kwargs):
        file = tempfile.TemporaryFile(*args, **kwargs)  # noqa: SIM115  # the spool closes it
        original = file.write

        class File:
            def write(self, data):
                found.append(bytes(data))
                return original(data)

            def __getattr__(self, name):
                return getattr(file, name)

        return File()

    monkeypatch.setattr(images, "TemporaryFile", make)
    return found


def products(count: int, **values) -> None:
    Product.objects.bulk_create(
        [Product(name=f"public name {number}", api_token=f"secret token {number}", **values) for number in range(count)]
    )


@pytest.mark.parametrize("write", ["update", "delete"])
class TestTheTemporaryFile:
    def run(self, write: str, **values: object) -> None:
        if write == "update":
            Product.objects.update(**(values or {"stock": 7}))
        else:
            rows = Product.objects.order_by()
            rows._raw_delete(rows.db)  # Django itself deletes a hundred at a time

    def test_many_rows_go_there_and_come_back(self, audit: Audit, monkeypatch, written, write: str) -> None:
        monkeypatch.setattr(images, "_MEMORY_CHUNKS", 1)
        products(1700)
        audit(ENGINE="portable")
        self.run(write)
        assert written
        found = events(event_type=write, model="app.product")
        assert {event.object_repr for event in found} == {f"public name {number}" for number in range(1700)}

    def test_nothing_can_be_read_in_it(self, audit: Audit, monkeypatch, written, write: str) -> None:
        monkeypatch.setattr(images, "_MEMORY_CHUNKS", 0)
        products(600, attributes={"password": "nested secret"})
        audit(ENGINE="portable")
        self.run(write)
        data = b"".join(written)
        assert len(data) > 600 * 10
        for text in (b"secret", b"public name"):
            assert text not in data

    def test_few_long_rows_go_there_too(self, audit: Audit, monkeypatch, written, write: str) -> None:
        monkeypatch.setattr(images, "_MEMORY_BYTES", 50_000)
        monkeypatch.setattr(images, "CHUNK_BYTES", 10_000)
        products(100, attributes={"text": "x" * 2_000})
        audit(ENGINE="portable")
        # What no rule of an update asks for is not read.
        self.run(write, attributes={})
        assert len(b"".join(written)) > 100_000
        assert max(map(len, written)) < 50_000
        assert len(events(event_type=write, model="app.product")) == 100

    def test_few_short_rows_do_not(self, audit: Audit, written, write: str) -> None:
        products(10)
        audit(ENGINE="portable")
        self.run(write)
        assert not written
