"""The permission to restore an object as it was at a point of its history."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("django_signal_audit", "0006_confirmed_databases"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="auditevent",
            options={
                "default_permissions": ("view",),
                "ordering": ["-id"],
                "permissions": [
                    ("revert_auditevent", "Can revert changes"),
                    ("restore_auditevent", "Can restore versions"),
                    ("export_auditevent", "Can export audit events"),
                ],
                "verbose_name": "audit event",
                "verbose_name_plural": "audit events",
            },
        ),
    ]
