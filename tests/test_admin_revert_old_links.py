"""Links from before the page was called "revert" still lead there."""

from __future__ import annotations

import pytest

from tests.app.models import Product

from .conftest import last
from .revert_pages import PLAIN, address

pytestmark = pytest.mark.django_db


@pytest.fixture
def event(audit):
    audit(PLAIN)
    product = Product.objects.create(name="Diesel", price="1.00")
    product.name = "Petrol"
    product.save()
    return last()


def old_address(event):
    return address(event).replace("/revert/", "/put-back/")


def test_an_old_link_leads_to_the_page(admin_client, event):
    response = admin_client.get(old_address(event), follow=True)
    assert response.redirect_chain == [(address(event), 308)]
    assert "Revert this change" in response.content.decode()
    assert Product.objects.get().name == "Petrol"


def test_a_form_that_was_open_meanwhile_still_works(admin_client, event):
    assert admin_client.post(old_address(event), follow=True).status_code == 200
    assert Product.objects.get().name == "Diesel"


def test_an_old_link_asks_for_a_login_first(client, event):
    assert "/login/" in client.get(old_address(event)).headers["Location"]


def test_an_old_link_to_no_event_is_not_found(admin_client, event):
    assert admin_client.get(old_address(event).replace(f"/{event.pk}/", "/999/"), follow=True).status_code == 404
