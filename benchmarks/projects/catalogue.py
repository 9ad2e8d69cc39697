"""Which projects are tried: where their source comes from, what their tests need, how they are started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Those of Django's own suites that write rows. "model_utils" is left out: the package of that name is what we need.
DJANGO_SUITES = """
basic bulk_create composite_pk contenttypes_tests custom_pk delete delete_regress expressions fixtures
force_insert_update foreign_object generic_relations generic_relations_regress get_or_create known_related_objects
m2m_intermediary m2m_multiple m2m_recursive m2m_regress m2m_signals m2m_through m2m_through_regress many_to_many
many_to_one model_forms model_formsets model_inheritance model_inheritance_regress multiple_database one_to_one
order_with_respect_to proxy_model_inheritance proxy_models save_delete_hooks serializers signals transactions update
update_only_fields
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One project, at one version."""

    # What pip installs; its source distribution has the tests, unless ``repository`` names the tag that has.
    requirement: str
    django: str
    needs: tuple[str, ...]
    command: tuple[str, ...]
    repository: tuple[str, str] | None = None
    folder: str = "."
    environment: Mapping[str, str] = field(default_factory=dict)
    # Tests that end differently and rightly so, by what their names contain, with the reason.
    explained: Mapping[str, str] = field(default_factory=dict)


_PYTEST = ("-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "-p", "no:django_signal_audit")

PROJECTS: dict[str, Project] = {
    "django": Project(
        requirement="Django==6.1.3",
        django="Django==6.1.3",
        needs=("jinja2", "tblib", "Pillow", "argon2-cffi", "bcrypt", "docutils", "PyYAML", "aiosmtpd"),
        folder="tests",
        command=("runtests.py", "--parallel=2", *DJANGO_SUITES.split()),
        explained={
            **dict.fromkeys(
                (
                    *("test_only_referenced_fields_selected", "test_fast_delete_all", "test_update_parent_filtering"),
                    *("test_self_reference_with_through_m2m_at_second_level", "composite_pk.test_update"),
                    *("test_update_only_defaults_and_pre_save_fields_when_local_fields", "test_create_child_no_update"),
                    "test_db_default_field_excluded",
                ),
                "looks for its own statements in all that ran, by number, place or words",
            ),
            "test_fast_delete_instance_set_pk_none": "asserts that nobody wants to know what is deleted",
            "test_disconnect_in_dispatch": "asserts that no model at all has a receiver of post_save",
        },
    ),
    "oscar": Project(
        requirement="django-oscar==4.2.0",
        repository=("https://github.com/django-oscar/django-oscar", "4.2.0"),
        django="Django==5.2.*",
        needs=(
            *("django-webtest>=1.9,<1.10", "WebTest>=3,<4", "Whoosh>=2.7,<2.8", "freezegun", "pytz", "pycountry"),
            *("pytest-django", "sorl-thumbnail", "easy-thumbnails", "django-environ", "whitenoise", "setuptools"),
        ),
        environment={
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_ENGINE": "django.db.backends.sqlite3",
            "DATABASE_NAME": ":memory:",
        },
        command=(*_PYTEST, "tests"),
        explained={
            f"ProductAttributeTest::test_{name}": "counts queries by assertTrue"
            for name in ("update_child_", "explicit_identical_child_attribute", "update_attributes_to_parent_and_child")
        },
    ),
    "rest-framework": Project(
        requirement="djangorestframework==3.18.3",
        django="Django==6.1.*",
        needs=(
            *("pytest", "pytest-django", "dj-database-url", "importlib-metadata", "django-filter", "inflection"),
            *("django-guardian<3.6", "markdown", "pygments==2.21.*", "pyyaml", "requests", "uritemplate"),
        ),
        command=(*_PYTEST, "tests"),
        explained={
            "test_lazy_hyperlink_names": "asserts that nobody asked for the text of an object that an event names"
        },
    ),
    "treebeard": Project(
        requirement="django-treebeard==7.0.3",
        django="Django==6.1.*",
        needs=("pytest", "pytest-django", "pytest-benchmark"),
        environment={"DJANGO_SETTINGS_MODULE": "tests.settings"},
        command=(*_PYTEST, "--no-migrations", "tests"),
    ),
    "import-export": Project(
        requirement="django-import-export[all]==4.4.3",
        django="Django==6.0.*",
        needs=("chardet<6", "psycopg[binary]", "pytz"),
        folder="tests",
        environment={"DJANGO_SETTINGS_MODULE": "settings"},
        command=("manage.py", "test", "core"),
        explained={
            "test_all_db_fields_has_widgets": "lists every field class that any imported package defines; "
            "django-model-utils, which this package needs, defines some",
        },
    ),
    "guardian": Project(
        requirement="django-guardian==3.5.2",
        django="Django==6.0.*",
        needs=("django-environ",),
        command=("manage.py", "test", "guardian.testapp"),
    ),
    "safedelete": Project(
        requirement="django-safedelete==1.5.0",
        django="Django==6.0.*",
        needs=(),
        command=("-m", "django", "test", "--settings=safedelete.tests.settings", "safedelete"),
    ),
    "simple-history": Project(
        requirement="django-simple-history==3.13.0",
        django="Django==6.1.*",
        needs=(),
        command=("runtests.py",),
        explained={
            "expected_num_queries) (num_places=": "begins with what the step before left, which ended at its count",
        },
    ),
}
