"""What Tab comes to on a page: all that can be used, with a name, and seen to have the focus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

MOST_STOPS = 200

# Marks all that can be used on our part of the page, and returns how many there are.
MARK = """() => {
    const ours = document.querySelector("#content") ? "#content, .breadcrumbs" : "body";
    const usable = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
    const found = [...document.querySelectorAll(ours)].flatMap(part => [...part.querySelectorAll(usable)])
        .filter(element => element.checkVisibility() && !element.disabled)
        // Of radio buttons the one that is chosen is a stop, and the arrows lead to the others.
        .filter(element => element.type !== "radio" || element.checked);
    found.forEach(element => { element.dataset.audit = "missed"; });
    return found.length;
}"""

# Returns what is wrong with the element that has the focus, if it is one that was marked.
STOP = """() => {
    const element = document.activeElement;
    const look = () => {
        const style = getComputedStyle(element);
        return [style.outline, style.boxShadow, style.border, style.background, style.textDecoration].join();
    };
    // An input of a date has several stops within, which the browser shows.
    if (!element.dataset || element.dataset.audit !== "missed") return [];
    element.dataset.audit = "reached";
    const labels = element.labels ? [...element.labels] : [];
    const label = labels.map(one => one.innerText + [...one.querySelectorAll("img")].map(image => image.alt)).join();
    const title = element.querySelector("title") ? element.querySelector("title").textContent : "";
    const own = element.getAttribute("aria-label") || element.textContent || element.title;
    const name = (own || label || title || (element.type === "submit" ? element.value : "")).trim();
    const box = element.getBoundingClientRect();
    const focused = look();
    element.blur();
    const faults = [];
    const what = element.outerHTML.slice(0, 120);
    if (!name) faults.push("has no name: " + what);
    if (look() === focused) faults.push("does not show that it has the focus: " + what);
    if (box.right < 0 || box.bottom < 0 || box.top > innerHeight) faults.push("has the focus out of sight: " + what);
    return faults;
}"""

MISSED = """() => [...document.querySelectorAll("[data-audit=missed]")]
    .map(element => "cannot be reached: " + element.outerHTML.slice(0, 120))"""


def walk(page: Page) -> list[str]:
    """Go through the page by Tab and return what is wrong on the way."""
    faults: list[Any] = []
    count = page.evaluate(MARK)
    assert 0 < count < MOST_STOPS
    for _ in range(count + 60):  # the admin's head and side have stops of their own
        page.keyboard.press("Tab")
        faults += page.evaluate(STOP)
    return faults + page.evaluate(MISSED)


def go_to(page: Page, name: str) -> None:
    """Go on by Tab until the focus is on what has the name."""
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        if page.evaluate("(e => (e.innerText || e.value || '').trim())(document.activeElement)") == name:
            return
    raise AssertionError(f"Tab never comes to {name!r}")
