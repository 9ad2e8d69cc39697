"""delete_files takes away what a deleted row named, and nothing that another row names in whatever spelling."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, default_storage

from django_signal_audit.context.scopes import suspended
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .app.models import Picture, Product
from .conftest import Audit

pytestmark = pytest.mark.django_db

CHANNELS = {
    "files": {
        "BACKEND": "django_signal_audit.channels.callable.CallableChannel",
        "OPTIONS": {"target": "django_signal_audit.reactions.delete_files"},
    }
}


class Remote(Storage):
    """A storage without paths, as those of clouds are."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def exists(self, name: str) -> bool:
        return name in self.names

    def delete(self, name: str) -> None:
        self.names.discard(name)


@pytest.fixture(autouse=True)
def _rules(audit: Audit, settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = str(tmp_path / "media")
    rule = {"name": "gone", "model": "app.Product", "events": ["delete"], "notify": ["files"]}
    audit(rule, DISPATCHER="django_signal_audit.dispatchers.WorkerDispatcher", CHANNELS=CHANNELS)


def delete(name: str) -> Notification:
    """Delete a product whose photo has the name, deliver, and return the notification."""
    Product.objects.create(name="doomed", photo=name).delete()
    deliver("default")
    return Notification.objects.latest("pk")


@pytest.mark.parametrize(
    "other",
    ["photos/1.pdf", "photos//1.pdf", "./photos/1.pdf", "photos/./1.pdf", "photos/x/../1.pdf", "photos/1.pdf/"],
)
def test_a_file_that_another_row_names_in_another_spelling_stays(other: str) -> None:
    default_storage.save("photos/1.pdf", ContentFile(b"x"))
    with suspended():
        product = Product.objects.create(name="other")
        Picture.objects.create(product=product, file=other)
    assert delete("photos/1.pdf").status == "sent"
    assert default_storage.exists("photos/1.pdf")


@pytest.mark.parametrize(
    "name",
    [
        "photos//1.pdf",
        "./photos/1.pdf",
        "photos/../photos/1.pdf",
        "photos/1.pdf/",
        "../media/photos/1.pdf",
        "photos",
        ".",
        "photos\\1.pdf",
    ],
)
def test_a_name_that_is_not_in_normal_form_deletes_nothing(name: str) -> None:
    default_storage.save("photos/1.pdf", ContentFile(b"x"))
    assert delete(name).status == "dead"
    assert default_storage.exists("photos/1.pdf")


def test_an_empty_folder_is_no_file(settings: Any) -> None:
    folder = Path(settings.MEDIA_ROOT) / "photos"
    folder.mkdir(parents=True)
    assert delete("photos").status == "dead"
    assert folder.exists()


@pytest.mark.skipif(os.name != "posix", reason="links are those of POSIX")
@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_is_deleted_through_a_link_out_of_the_storage(settings: Any, tmp_path: Path, is_folder: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.pdf").write_text("x")
    media = Path(settings.MEDIA_ROOT)
    media.mkdir()
    (media / "photos").symlink_to(outside) if is_folder else None
    if not is_folder:
        (media / "photos").mkdir()
        (media / "photos" / "1.pdf").symlink_to(outside / "1.pdf")
    assert delete("photos/1.pdf").status == "dead"
    assert (outside / "1.pdf").exists()
    assert (media / "photos" / "1.pdf").exists()


@pytest.mark.skipif(os.name != "posix", reason="links are those of POSIX")
def test_a_file_that_another_row_names_through_a_folder_that_is_a_link_stays(settings: Any) -> None:
    default_storage.save("photos/1.pdf", ContentFile(b"x"))
    (Path(settings.MEDIA_ROOT) / "alias").symlink_to("photos")
    with suspended():
        Product.objects.create(name="other", photo="alias/1.pdf")
    assert delete("photos/1.pdf").status == "sent"
    assert default_storage.exists("photos/1.pdf")


@pytest.mark.parametrize(
    "other",
    ["Photos/\u00e4.PDF", "photos/a\u0308.pdf", "photos/\u00c4.pdf", "photos/\u00e4.pdf.", "/photos/\u00e4.pdf "],
)
def test_a_storage_without_paths_may_not_care_for_case_and_accents(monkeypatch: Any, other: str) -> None:
    storage = Remote()
    monkeypatch.setattr(Product._meta.get_field("photo"), "storage", storage)
    storage.names.add("photos/\u00e4.pdf")
    with suspended():
        Product.objects.create(name="other", photo=other)
    assert delete("photos/\u00e4.pdf").status == "sent"
    assert storage.exists("photos/\u00e4.pdf")


def test_a_file_that_nobody_names_goes() -> None:
    default_storage.save("photos/1.pdf", ContentFile(b"x"))
    default_storage.save("photos/11.pdf", ContentFile(b"x"))
    with suspended():
        Product.objects.create(name="other", photo="photos/11.pdf")
    assert delete("photos/1.pdf").status == "sent"
    assert not default_storage.exists("photos/1.pdf")
    assert default_storage.exists("photos/11.pdf")


class Bucket(Remote):
    """A part of a storage without paths."""

    location = "photos"


def test_two_storages_may_be_one_bucket(monkeypatch: Any) -> None:
    storage, part = Remote(), Bucket()
    monkeypatch.setattr(Product._meta.get_field("photo"), "storage", storage)
    monkeypatch.setattr(Picture._meta.get_field("file"), "storage", part)
    storage.names.add("photos/1.pdf")
    with suspended():
        Picture.objects.create(product=Product.objects.create(name="other"), file="1.pdf")
    assert delete("photos/1.pdf").status == "sent"
    assert storage.exists("photos/1.pdf")


@pytest.mark.skipif(os.name != "posix", reason="links are those of POSIX")
def test_the_folder_of_all_files_may_be_a_link(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    settings.MEDIA_ROOT = str(tmp_path / "link")
    default_storage.save("photos/1.pdf", ContentFile(b"x"))
    with suspended():
        other = Product.objects.create(name="other", photo=str(tmp_path / "link" / "photos" / "1.pdf"))
    assert delete("photos/1.pdf").status == "sent"
    assert default_storage.exists("photos/1.pdf")
    Product.objects.filter(pk=other.pk).update(photo="")
    assert delete("photos/1.pdf").status == "sent"
    assert not default_storage.exists("photos/1.pdf")
