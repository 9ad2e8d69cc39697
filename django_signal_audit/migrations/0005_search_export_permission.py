"""The permission to export what the list of events shows."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("django_signal_audit", "0004_search_indexes"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="auditevent",
            options={
                "default_permissions": ("view",),
                "ordering": ["-id"],
                "permissions": [
                    ("revert_auditevent", "Can revert changes"),
                    ("export_auditevent", "Can export audit events"),
                ],
                "verbose_name": "audit event",
                "verbose_name_plural": "audit events",
            },
        ),
    ]
