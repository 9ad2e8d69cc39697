from __future__ import annotations

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage

from django_signal_audit.channels.callable import CallableChannel
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .app.models import Picture, Product
from .notices import audit_settings, make_event, make_notification

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def storage(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    target = {"BACKEND": f"{CallableChannel.__module__}.CallableChannel"}
    target["OPTIONS"] = {"target": "django_signal_audit.reactions.delete_files"}
    settings.SIGNAL_AUDIT = audit_settings({"delete-files": target})
    return Picture._meta.get_field("file").storage


def picture(name="oil.png"):
    product = Product.objects.create(name="Oil")
    made = Picture(product=product)
    made.file.save(name, ContentFile(b"x"))
    return made


def react(model="app.picture", event_type="delete", **changes):
    changes = {name: [old, None] for name, old in changes.items()}
    row = make_notification(make_event(model=model, event_type=event_type, changes=changes), "delete-files")
    deliver()
    return Notification.objects.get(pk=row.pk)


def test_the_file_of_a_deleted_object_goes(storage):
    made = picture()
    name = made.file.name
    made.delete()
    assert storage.exists(name)
    assert react(file=name, product=made.product_id).status == "sent"
    assert not storage.exists(name)


def test_it_may_run_again(storage):
    made = picture()
    name = made.file.name
    made.delete()
    assert [react(file=name).status, react(file=name).status] == ["sent", "sent"]


def test_a_file_that_another_row_names_stays(storage):
    made = picture()
    name = made.file.name
    other = Picture.objects.create(product=made.product, file=name)
    made.delete()
    assert react(file=name).status == "sent"
    assert storage.exists(name)
    other.delete()
    react(file=name)
    assert not storage.exists(name)


def test_a_row_of_another_model_counts_too(storage):
    made = picture()
    name = made.file.name
    Product.objects.create(name="Gas", photo=name)
    made.delete()
    react(file=name)
    assert storage.exists(name)


def test_another_storage_with_the_same_place_counts_and_one_elsewhere_does_not(storage, monkeypatch, tmp_path):
    made = picture()
    name = made.file.name
    Product.objects.create(name="Gas", photo=name)
    made.delete()
    photo = Product._meta.get_field("photo")
    monkeypatch.setattr(photo, "storage", FileSystemStorage(location=tmp_path))
    react(file=name)
    assert storage.exists(name)
    monkeypatch.setattr(photo, "storage", FileSystemStorage(location=tmp_path / "elsewhere"))
    react(file=name)
    assert not storage.exists(name)


def test_empty_names_other_fields_and_other_events_are_left_alone(storage):
    name = picture().file.name
    Picture.objects.all().delete()
    assert react(file="", product=name).status == "sent"
    assert react(event_type="update", file=name).status == "sent"
    assert react(model="gone.model", file=name).status == "sent"
    assert storage.exists(name)


def test_all_events_of_a_digest(storage):
    names = [picture(f"{number}.png").file.name for number in range(3)]
    Picture.objects.all().delete()
    events = [make_event(model="app.picture", event_type="delete", changes={"file": [name, None]}) for name in names]
    Notification.objects.create(
        rule="watch", channel="delete-files", data={"events": [str(event.uid) for event in events]}
    )
    assert deliver().sent == 1
    assert not any(storage.exists(name) for name in names)


@pytest.mark.parametrize(
    "value", [{"$masked": "hmac-sha256:aa"}, {"$digest": "sha256:aa", "length": 3}], ids=["masked", "digested"]
)
def test_a_name_that_is_not_in_clear_is_given_up(value):
    row = react(file=value)
    assert row.status == "dead"
    assert 'The name of the file in "file" is masked or cut in the audit log' in row.last_error


def test_a_name_outside_the_storage_is_given_up(tmp_path):
    outside = tmp_path.parent / "outside.txt"
    outside.write_text("x")
    row = react(file="../outside.txt")
    assert row.status == "dead"
    assert outside.exists()
