"""Going from page to page as somebody does who looks for something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testproject.shop.models import Product

from .chromium import TWO, Tab
from .keyboard import go_to
from .life import Life
from .test_pages import LIST, OUTBOX, PAGES

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROWS = "#result_list tbody tr"


def follow(page: Page, selector: str) -> None:
    """Click, and wait for the page that this leads to."""
    with page.expect_navigation():
        page.click(selector)


def enter(page: Page) -> None:
    """Send the form in which the focus is, and wait for the answer."""
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_to_older_events_and_back(tab: Tab, life: Life) -> None:
    def turn(page: Page) -> tuple[str, str, int]:
        page.goto(LIST)
        first = page.inner_text(f"{ROWS}:first-child")
        follow(page, "text=Older")
        older, count = page.inner_text(f"{ROWS}:first-child"), page.locator(ROWS).count()
        follow(page, "text=Newer")
        assert page.inner_text(f"{ROWS}:first-child") == first
        follow(page, "text=Older")
        return first, older, count

    first, older, count = tab.do(turn)
    assert first != older
    assert 0 < count <= 50
    faults = tab.look("log-older", views=TWO)
    assert not faults, "\n".join(faults)


def test_from_a_filter_to_an_event_and_the_history_of_its_object(tab: Tab, life: Life) -> None:
    def go(page: Page) -> str:
        page.goto(LIST)
        follow(page, "#changelist-filter >> text=delete")
        page.get_by_label("Primary key or exact name").fill("ada")
        enter(page)
        assert page.locator(ROWS).count() == 2
        follow(page, f"{ROWS}:first-child .field-when a, {ROWS}:first-child th a")
        follow(page, "#content a:has-text('Coal')")
        page.get_by_label("State at").fill("1h")
        enter(page)
        return page.inner_text("#content")

    text = tab.do(go)
    assert "Not sold any more" in text
    assert "The object didn't exist yet" in text
    assert tab.complaints == []


def test_from_a_bar_to_what_it_counts(tab: Tab, life: Life) -> None:
    def go(page: Page) -> int:
        page.goto(PAGES["dashboard"](life))
        follow(page, "#by-model svg a >> nth=1")
        return page.locator(ROWS).count()

    assert tab.do(go) > 0
    assert "model=" in tab.do(lambda page: page.url)


def test_a_message_that_failed_is_sent_again(tab: Tab, life: Life) -> None:
    def send(page: Page) -> str:
        page.goto(OUTBOX)
        follow(page, "#changelist-filter >> text=dead")
        follow(page, "text=Retry failed notifications")
        follow(page, "text=Yes, retry")
        return page.inner_text(".messagelist")

    assert "1 notification is queued again." in tab.do(send)
    faults = tab.look("sent-again", views=TWO)
    assert not faults, "\n".join(faults)


def test_messages_are_marked_as_read(tab: Tab, life: Life) -> None:
    def read(page: Page) -> str:
        page.goto(PAGES["inbox"](life))
        follow(page, "article button >> nth=0")
        assert page.inner_text("[role=status]") == "1 unread"
        follow(page, "text=Mark all as read")
        return page.inner_text("[role=status]")

    assert tab.do(read) == "All read"
    faults = tab.look("inbox-read", views=TWO)
    assert not faults, "\n".join(faults)


def test_a_deleted_object_is_restored_from_its_history(tab: Tab, life: Life) -> None:
    def revert(page: Page) -> str:
        page.goto(PAGES["history-of-deleted"](life))
        follow(page, "text=Revert this change")
        follow(page, "text=Yes, revert")
        return page.inner_text(".messagelist")

    assert tab.do(revert) == "The change was reverted."
    assert Product.objects.get(pk=life.deleted_key).name == "Coal"
    assert tab.complaints == []


def test_a_change_is_reverted_without_a_mouse(tab: Tab, life: Life) -> None:
    address = PAGES["event"](life)

    def revert(page: Page) -> str:
        page.goto(address)
        for name in ("Revert this change", "Yes, revert"):
            go_to(page, name)
            with page.expect_navigation():
                page.keyboard.press("Enter")
        return page.inner_text(".messagelist")

    said = tab.do(revert)
    assert said == "The change was reverted."
    life.product.refresh_from_db()
    assert life.product.is_active
    assert "Norwegian" not in life.product.description
    faults = tab.look("revert-done", views=TWO)
    assert not faults, "\n".join(faults)
