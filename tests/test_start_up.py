"""What a start must not do: make what the project's apps may still change, or fail where Django would not."""

from __future__ import annotations

from pathlib import Path

import pytest

from .fresh_process import OURS, run_project

SHOP = """
from django.db import models

class Tag(models.Model):
    name = models.CharField(max_length=20)
    is_gone = models.BooleanField(default=False)

class Item(models.Model):
    name = models.CharField(max_length=20)
    tags = models.ManyToManyField(Tag, related_name="items")
"""
TENANCY = """
from django.apps import AppConfig

class Config(AppConfig):
    name = "tenancy"

    def ready(self):
        from django.db import models
        from shop.models import Item, Tag

        class Present(models.Manager):
            def get_queryset(self):
                return super().get_queryset().filter(is_gone=False)

{change}
"""
CHANGES = {
    "another default manager": """
        manager = Present()
        manager.name = "objects"
        Tag._meta.local_managers.clear()
        Tag.add_to_class("objects", Present())
""",
    "another manager class of the field": """
        from django.db.models.fields.related_descriptors import create_forward_many_to_many_manager
        made = create_forward_many_to_many_manager(Present, Item.tags.rel, reverse=False)
        Item.tags.related_manager_cls = made
""",
    "a class that extends the field's own": """
        own = Item.tags.related_manager_cls
        class Filtered(own):
            def get_queryset(self):
                return super().get_queryset().filter(is_gone=False)
        Item.tags.related_manager_cls = Filtered
""",
}


@pytest.mark.parametrize("is_last", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_managers_that_an_app_changes_in_ready(tmp_path: Path, change: str, is_last: bool) -> None:
    config = "tenancy.apps.Config"
    apps = (*OURS, "shop", config) if is_last else ("shop", config, *OURS)
    script = """
    from shop.models import Item, Tag
    here, gone = Tag.objects.create(name="here"), Tag.objects.create(name="gone", is_gone=True)
    item = Item.objects.create(name="a")
    item.tags.add(here, gone)
    assert list(item.tags.all()) == [here], "the filter is gone"
    other = Tag.objects.create(name="other")
    Item.objects.get().tags.set([other])
    events = [(event.event_type, event.changes) for event in AuditEvent.objects.filter(model="shop.item")]
    print(sum(1 for kind, _ in events if kind == "m2m"))
    from django.core.checks import run_checks
    print([problem for problem in run_checks() if problem.id == "django_signal_audit.E024"])
    """
    files = {"shop/models.py": SHOP, "tenancy/apps.py": TENANCY.format(change=CHANGES[change])}
    # One event per call: set() is one, however many statements it takes.
    assert run_project(tmp_path, files, script, apps=apps).split() == ["2", "[]"]


BROKEN = {
    "a composite primary key that names no field": """
class Line(models.Model):
    pk = models.CompositePrimaryKey("order", "nowhere")
    order = models.IntegerField()
""",
    "a composite primary key of a relation that leads nowhere": """
class Line(models.Model):
    pk = models.CompositePrimaryKey("order_id", "number")
    order = models.ForeignKey("shop.Order", models.CASCADE)
    number = models.IntegerField()
""",
    "members of a model that is missing": """
class Line(models.Model):
    parts = models.ManyToManyField("shop.Missing")
""",
    "members through a model that is missing": """
class Line(models.Model):
    parts = models.ManyToManyField("self", through="shop.Missing")
""",
    "a foreign key to a model that is missing": """
class Line(models.Model):
    order = models.ForeignKey("shop.Missing", models.CASCADE)
""",
    "a foreign key to a field that is missing": """
class Line(models.Model):
    code = models.CharField(max_length=9)
    order = models.ForeignKey("self", models.CASCADE, to_field="nowhere")
""",
    "a foreign key to an abstract model": """
class Base(models.Model):
    class Meta:
        abstract = True

class Line(Base):
    order = models.ForeignKey("shop.Base", models.CASCADE)
""",
    "a foreign key to a model that is swapped out": """
class Line(models.Model):
    class Meta:
        swappable = "SHOP_LINE"

class Own(models.Model):
    line = models.ForeignKey("shop.Line", models.CASCADE)
    lines = models.ManyToManyField("shop.Line")
""",
    "a unique constraint and an index of fields that are missing": """
class Line(models.Model):
    name = models.CharField(max_length=9)

    class Meta:
        unique_together = [("name", "nowhere")]
        constraints = [models.UniqueConstraint(fields=["nowhere"], name="no")]
        ordering = ["nowhere"]
""",
}
BEGIN_UNCHECKED = """
import django
django.setup()
"""
# What Django says of them, if they can be checked at all.
SAID = ["models.E042", "fields.E", "models.E", "FieldDoesNotExist", "FieldError"]


@pytest.mark.parametrize("broken", BROKEN)
def test_models_that_are_broken(tmp_path: Path, broken: str) -> None:
    script = """
    from django.apps import apps
    from django.core.checks import run_checks
    from django.db import models

    ours = "django_signal_audit."
    try:
        print([f"({problem.id}) {problem.msg}" for problem in run_checks() if not str(problem.id).startswith(ours)])
    except Exception as error:
        # It is Django that fails, with our checks or without.
        from django.core.checks.registry import registry
        registry.registered_checks = {one for one in registry.registered_checks if ours not in one.__module__}
        try:
            run_checks()
        except Exception as again:
            assert type(error) is type(again), error
            print(type(error).__name__)

    # Models that are defined later come into being.
    class Later(models.Model):
        class Meta:
            app_label = "shop"

    assert apps.get_model("shop", "later") is Later
    from django_signal_audit.rules.registry import get_registry
    from shop.models import Item
    assert {Item, Later} <= set(get_registry().plans)
    """
    source = f"from django.db import models\n\nclass Item(models.Model):\n    pass\n{BROKEN[broken]}"
    printed = run_project(
        tmp_path,
        {"shop/models.py": source},
        script,
        apps=(*OURS, "shop"),
        begin=BEGIN_UNCHECKED,
        settings="\nSHOP_LINE = 'shop.Item'\n",
    )
    assert any(code in printed for code in SAID), printed


def test_an_admin_that_discovers_nothing_works_after_pages_that_ask_it_who_may_see_what(tmp_path: Path) -> None:
    script = """
    from django.contrib.auth.models import User
    from django.test import Client
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    addresses = ["/admin/", "/audit/api/objects/auth.user/1/events/", "/admin/"]
    print(*(client.get(address).status_code for address in addresses))
    """
    urls = """
    from django.contrib import admin
    from django.urls import include, path

    urlpatterns = [path("admin/", admin.site.urls), path("audit/", include("django_signal_audit.urls"))]
    """
    settings = """
ROOT_URLCONF = "project_urls"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PROCESSORS = ["template.context_processors.request", "contrib.auth.context_processors.auth",
              "contrib.messages.context_processors.messages"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
              "OPTIONS": {"context_processors": [f"django.{name}" for name in PROCESSORS]}}]
"""
    more = ("django.contrib.admin.apps.SimpleAdminConfig", "django.contrib.sessions", "django.contrib.messages")
    printed = run_project(tmp_path, {"project_urls.py": urls}, script, apps=(*OURS, *more), settings=settings)
    assert printed.splitlines()[-1] == "200 200 200", printed
