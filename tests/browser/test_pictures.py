"""The pictures of README: the history page of a changed product, and the email beside the rule that sends it.

They show the settings that README shows, so they can't differ from it. `make pictures` writes them to docs/pictures.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.template import Context, Engine

from django_signal_audit.admin.links import history_url
from django_signal_audit.channels.email import HAS_MAILERS
from django_signal_audit.context.scopes import audit_context
from django_signal_audit.testing import drain
from testproject.shop.models import Category, Product, Tag
from tests.docs_blocks import ROOT, read_blocks

from .chromium import Tab, save_picture

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTH = 900
HISTORY_WIDTH = 1030  # up to 1024 pixels, the admin stacks its header as on a tablet
LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
DESCRIPTION = "Green tea from Uji, picked in May. Sold in bags of 100 grams."

# The same look as the pages of the admin, in light.
RULE_AND_EMAIL = """<!doctype html>
<meta charset="utf-8">
<style>
  body { margin: 0; padding: 20px; background: #fff; color: #303030; font: 14px/1.5 "DejaVu Sans", sans-serif; }
  main { display: flex; align-items: stretch; gap: 14px; }
  section { border: 1px solid #d8dee4; border-radius: 6px; overflow: hidden; }
  section.rule { flex: 0 0 414px; align-self: flex-start; }
  section.email { flex: 1; }
  h2 { margin: 0; padding: 8px 14px; background: #417690; color: #fff; font-size: 13px; font-weight: normal; }
  pre { margin: 0; padding: 12px 14px; font: 12px/1.65 "DejaVu Sans Mono", monospace; white-space: pre-wrap; }
  pre span { display: block; padding-left: 8ch; text-indent: -4ch; }
  pre b { color: #205067; font-weight: normal; } pre i { color: #0a6640; font-style: normal; }
  .arrow { align-self: center; color: #417690; font-size: 26px; }
  dl { display: grid; grid-template-columns: 60px 1fr; margin: 0; padding: 10px 14px; border-bottom: 1px solid #d8dee4;
       font-size: 13px; }
  dt { color: #6a6a6a; } dd { margin: 0; } dd.subject { font-weight: bold; }
  iframe { display: block; width: 100%; height: 440px; border: 0; }
</style>
<main>
  <section class="rule"><h2>settings.py</h2><pre>{% templatetag openbrace %}{% for key, value in rule %}<span
    ><b>{{ key }}</b>: <i>{{ value }}</i>,</span>{% endfor %}{% templatetag closebrace %}</pre></section>
  <div class="arrow">&#x279C;</div>
  <section class="email"><h2>Email</h2>
    <dl><dt>From</dt><dd>{{ mail.from_email }}</dd><dt>To</dt><dd>{{ mail.to.0 }}</dd>
      <dt>Subject</dt><dd class="subject">{{ mail.subject }}</dd></dl>
    <iframe srcdoc="{{ html }}"></iframe>
  </section>
</main>"""


@pytest.fixture
def readme_settings(settings: Any) -> dict[str, Any]:
    """Put the settings of README's first block in force."""
    block = next(block for block in read_blocks(ROOT / "README.md") if block.what == "settings")
    names: dict[str, Any] = {"INSTALLED_APPS": [], "MIDDLEWARE": []}  # what the block adds to
    exec(block.source, names)
    settings.SIGNAL_AUDIT = names["SIGNAL_AUDIT"]
    settings.TIME_ZONE = "UTC"
    settings.DEFAULT_FROM_EMAIL = "shop@example.com"
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": LOCMEM}}
    return names["SIGNAL_AUDIT"]  # type: ignore[no-any-return]


@pytest.fixture
def product(readme_settings: dict[str, Any], admin: User) -> Product:
    """Return a product that people and a program have changed."""
    ben = User.objects.create_user("ben")
    with time_machine.travel("2026-03-02 08:30:00Z", tick=False), audit_context(actor="import", reason="First import"):
        tea = Category.objects.create(name="Tea")
        organic, new = Tag.objects.create(name="organic"), Tag.objects.create(name="new")
        product = Product.objects.create(sku="sencha", name="Sencha", price=12, category=tea, description=DESCRIPTION)
        product.tags.add(organic, new)
    with time_machine.travel("2026-03-09 14:05:00Z", tick=False), audit_context(actor=ben, reason="Supplier changed"):
        product.description = DESCRIPTION.replace("Uji", "Shizuoka").replace("May", "April")
        product.stock = 40
        product.save()
    with time_machine.travel("2026-04-01 09:12:00Z", tick=False), audit_context(actor=admin, reason="Spring sale"):
        product.tags.remove(new)
        product.price = Decimal("9.5")
        product.save()
    return product


def test_the_history_page_shows_the_drop_of_the_price(tab: Tab, product: Product) -> None:
    address = history_url("admin", "shop.product", str(product.pk))
    tab.do(lambda page: page.set_viewport_size({"width": HISTORY_WIDTH, "height": 600}))
    tab.do(lambda page: page.goto(address))
    assert tab.do(lambda page: page.get_by_text("9.5000").is_visible())
    tab.do(picture_of_history)


def picture_of_history(page: Page) -> None:
    """Write the page from its top to its end, without the list of apps."""
    page.locator("#toggle-nav-sidebar").click()
    page.evaluate("document.getAnimations().forEach(animation => animation.finish())")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.emulate_media(color_scheme="light")
    table = page.locator(".audit-entries").bounding_box()
    assert table is not None
    save_picture(page, "history", width=HISTORY_WIDTH, height=table["y"] + table["height"] + 12)


def test_the_rule_sends_the_email(tab: Tab, product: Product, readme_settings: dict[str, Any], mailoutbox: Any) -> None:
    drain()
    [email] = mailoutbox
    assert email.subject == "Sencha dropped from 12.0000 to 9.5000"
    rule = next(rule for rule in readme_settings["RULES"] if rule["name"] == "price-drop")
    shown = [(json.dumps(key), json.dumps(value)) for key, value in rule.items()]
    html = (
        Engine()
        .from_string(RULE_AND_EMAIL)
        .render(Context({"rule": shown, "mail": email, "html": email.alternatives[0][0]}))
    )
    tab.do(lambda page: page.set_viewport_size({"width": WIDTH, "height": 100}))
    tab.do(lambda page: page.set_content(html))
    assert tab.do(lambda page: page.frame_locator("iframe").get_by_text("Spring sale").is_visible())
    tab.do(lambda page: save_picture(page, "email", width=WIDTH))
