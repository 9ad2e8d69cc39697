"""The machine's Chromium, driven from the tests, and what it finds wrong with a page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import django

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
HEIGHT = 900
TALLEST = 2400  # of a picture

# Django's own markup, which no template of ours touches, and which axe is not to judge.
DJANGOS = [
    *([".breadcrumbs", "#changelist-search"] if django.VERSION < (6, 1) else []),  # their links were not underlined
    ".help-tooltip",  # in the widget of many-to-many fields, on the shop's form: a <span> with an aria-label
]

T = TypeVar("T")

# Nothing reaches out of the window, and nothing is cut off but by a box that is reached and scrolled by keyboard.
SPILLS = """() => {
    const width = document.documentElement.clientWidth;
    const root = document.querySelector("#content") || document.body;
    const cut = box => box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "visible";
    const found = [...root.querySelectorAll(":not(.visually-hidden)")]
        .filter(box => box.clientWidth && cut(box) && box.tabIndex < 0)
        .map(box => "cut off or scrolled without a keyboard: " + box.outerHTML.slice(0, 120));
    for (const label of root.querySelectorAll("svg text")) {
        const [letters, chart] = [label.getBoundingClientRect(), label.ownerSVGElement.getBoundingClientRect()];
        const isCut = letters.left < chart.left - 1 || letters.right > chart.right + 1;
        if (isCut) found.push("cut off: " + label.textContent);
    }
    if (document.documentElement.scrollWidth > width) {
        const wide = [...document.querySelectorAll("*")].filter(box => box.getBoundingClientRect().right > width + 1);
        found.push("wider than the window: " + (wide.pop() || document.body).outerHTML.slice(0, 120));
    }
    return found.slice(0, 5);
}"""


class View(NamedTuple):
    """A way to look at a page."""

    theme: str
    width: int


VIEWS = [View(theme, width) for theme in ("light", "dark") for width in (1280, 400)]
# Enough for a page that has been looked at with other values, and for a build.
TWO = [View("light", 1280), View("dark", 400)]
IS_THOROUGH = "AUDIT_TEST_PICTURES" in os.environ or os.environ.get("AUDIT_TEST_THOROUGH") == "1"
IN_A_BUILD = VIEWS if IS_THOROUGH else TWO
# For the other direction: there is least room in the narrow window, and colours are the same.
TURNED = TWO if IS_THOROUGH else TWO[1:]


def find_chromium() -> str | None:
    """Return where the machine's Chromium is, None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A headless browser in a thread of its own: Playwright's event loop must not run where Django's ORM does."""

    def __init__(self, path: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._thread.submit(self._start, path).result()

    def _start(self, path: str) -> None:
        from axe_playwright_python.sync_playwright import Axe
        from playwright.sync_api import sync_playwright

        self._axe = Axe()
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=path)

    def stop(self) -> None:
        """End the browser and its thread."""
        self._thread.submit(self._browser.close).result()
        self._thread.submit(self._playwright.stop).result()
        self._thread.shutdown()

    def open(self, **options: Any) -> Tab:
        """Return a new tab that shares nothing with others."""
        return Tab(self._thread, self._thread.submit(lambda: self._browser.new_page(**options)).result(), self._axe)


class Tab:
    """A page in the browser, and all that it complained of."""

    def __init__(self, thread: ThreadPoolExecutor, page: Page, axe: Any) -> None:
        self._thread = thread
        self._axe = axe
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.do(self._listen)

    def do(self, work: Callable[[Page], T]) -> T:
        """Return what the function makes of the page; it must not use the database."""
        return self._thread.submit(work, self.page).result()

    def _listen(self, page: Page) -> None:
        page.set_default_timeout(10_000)
        page.on("console", lambda said: self._complain(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self._complain(str(error)))
        page.on("dialog", lambda dialog: (self._complain(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # the project's, if it has one
        page.on("request", lambda request: self.requests.append(request.url))

    def _complain(self, text: str) -> None:
        self.complaints.append(text)

    def look(self, name: str, views: Sequence[View] = IN_A_BUILD) -> list[str]:
        """Look at the page in both themes and widths.

        Args:
            name: What its pictures are called, if any are taken.
            views: The ways to look.

        Returns:
            All that is wrong with it, one a line.

        """
        found = [f"{view.theme} {view.width}: {fault}" for view in views for fault in self._faults(view, name)]
        return list(dict.fromkeys(self.complaints)) + found

    def _faults(self, view: View, name: str) -> list[str]:
        return self.do(lambda page: self._judge(page, view, name))

    def _judge(self, page: Page, view: View, name: str) -> list[str]:
        page.emulate_media(color_scheme=view.theme)  # type: ignore[arg-type]  # a literal for Playwright
        page.set_viewport_size({"width": view.width, "height": HEIGHT})
        page.evaluate("document.getAnimations().forEach(animation => animation.finish())")
        take_picture(page, f"{name}-{view.theme}-{view.width}")
        context = {"exclude": [[selector] for selector in DJANGOS if page.query_selector(selector)]}
        # To read the style sheets once more, axe would write some of its own, which the policy forbids.
        options = {"runOnly": RULES, "resultTypes": ["violations"], "preload": False}
        violations = self._axe.run(page, context, options).response["violations"]
        return page.evaluate(SPILLS) + [explain(rule, node) for rule in violations for node in rule["nodes"]]


def explain(rule: dict[str, Any], node: dict[str, Any]) -> str:
    """Return what axe found wrong with one element, and where that is."""
    said = (node["any"] + node["all"] + node["none"])[0]["message"]
    return f"{rule['id']}: {said} {node['target']} {node['html'][:200]}"


def take_picture(page: Page, name: str) -> None:
    """Write what is seen to the directory that AUDIT_TEST_PICTURES names, if it names one."""
    save_picture(page, name, width=page.evaluate("document.documentElement.clientWidth"))


def save_picture(page: Page, name: str, *, width: int, height: float | None = None) -> None:
    """Write the page from its top to this height, or to its end, to that directory."""
    directory = os.environ.get("AUDIT_TEST_PICTURES")
    if directory:
        height = height or page.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, TALLEST)}
        page.screenshot(path=Path(directory) / f"{name}.png", full_page=True, clip=clip)
