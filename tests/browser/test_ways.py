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

GROUPS, ROWS = ".audit-group", ".audit-group > tr:not(.audit-others)"


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
        first = page.inner_text(f"{GROUPS} >> nth=0")
        follow(page, "text=Older")
        older, count = page.inner_text(f"{GROUPS} >> nth=0"), page.locator(ROWS).count()
        follow(page, "text=Newer")
        assert page.inner_text(f"{GROUPS} >> nth=0") == first
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
        page.get_by_label("Event", exact=True).select_option("delete")
        page.get_by_label("Search", exact=True).fill("actor:ada")
        enter(page)
        assert page.locator(ROWS).count() == 2
        follow(page, f"{ROWS} >> nth=0 >> .audit-open a")
        follow(page, "#content a:has-text('Coal')")
        page.get_by_label("State at", exact=True).fill("1h")
        enter(page)
        return page.inner_text("#content")

    text = tab.do(go)
    assert "Not sold any more" in text
    assert "The object was deleted by then." in text
    assert tab.complaints == []


def test_from_a_bar_to_what_it_counts(tab: Tab, life: Life) -> None:
    def go(page: Page) -> int:
        page.goto(PAGES["dashboard"](life))
        follow(page, "#rules th a >> nth=0")
        return page.locator(ROWS).count()

    assert tab.do(go) > 0
    assert "rule=" in tab.do(lambda page: page.url)


def test_a_message_that_failed_is_sent_again(tab: Tab, life: Life) -> None:
    def send(page: Page) -> str:
        page.goto(OUTBOX)
        page.get_by_label("Status", exact=True).select_option("dead")
        follow(page, "button:has-text('Search')")
        follow(page, "text=Retry all matching…")
        follow(page, "text=Yes, retry")
        return page.inner_text(".messagelist")

    assert "1 notification is queued again." in tab.do(send)
    faults = tab.look("sent-again", views=TWO)
    assert not faults, "\n".join(faults)


def test_messages_are_marked_as_read(tab: Tab, life: Life) -> None:
    def read(page: Page) -> str:
        page.goto(PAGES["inbox"](life))
        follow(page, "li button:has-text('Mark as read') >> nth=0")
        assert page.inner_text(".audit-tabs .audit-count") == "1"
        follow(page, "text=Mark all as read")
        follow(page, ".audit-tabs a:has-text('Unread')")
        return page.inner_text(".audit-none")

    assert tab.do(read) == "No unread messages."
    faults = tab.look("inbox-read", views=TWO)
    assert not faults, "\n".join(faults)


def test_a_deleted_object_is_restored_from_its_history(tab: Tab, life: Life) -> None:
    def restore(page: Page) -> str:
        page.goto(PAGES["history-of-deleted"](life))
        follow(page, "text=Restore object")
        page.get_by_label("Reason").fill("Sold again")
        follow(page, "button:has-text('Restore')")
        return page.inner_text(".messagelist")

    assert "“Coal” was restored." in tab.do(restore)
    assert Product.objects.get(pk=life.deleted_key).name == "Coal"
    assert tab.complaints == []


def test_a_change_is_reverted_without_a_mouse(tab: Tab, life: Life) -> None:
    address = PAGES["event"](life)

    def revert(page: Page) -> str:
        page.goto(address)
        for name in ("Revert this change…", "Yes, revert"):
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


def test_a_version_is_compared_and_restored_without_a_mouse(tab: Tab, life: Life) -> None:
    address = PAGES["history"](life)

    def restore(page: Page) -> str:
        page.goto(address)
        page.get_by_label("Newer: current").focus()
        page.keyboard.press("Tab")
        for _ in range(4):
            page.keyboard.press("ArrowDown")
        page.get_by_text("Compare selected versions").focus()
        enter(page)
        go_to(page, "Restore the older version…")
        enter(page)
        go_to(page, "Restore")
        enter(page)
        return page.inner_text(".messagelist")

    assert "“Brent crude” was restored." in tab.do(restore)
    life.product.refresh_from_db()
    assert life.product.is_active
    assert tab.complaints == []


def test_a_menu_closes_by_escape(tab: Tab, life: Life) -> None:
    address = PAGES["history"](life)

    def go(page: Page) -> bool:
        page.goto(address)
        page.locator(".audit-open summary").first.press("Enter")
        assert page.get_by_text("State after this change").first.is_visible()
        page.keyboard.press("Escape")
        return page.get_by_text("State after this change").first.is_visible()

    assert not tab.do(go)
    assert tab.complaints == []
