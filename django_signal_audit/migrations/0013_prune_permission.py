"""The permission to prune events."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("django_signal_audit", "0012_event_tenant"),
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
                    ("prune_auditevent", "Can prune audit events"),
                    ("erase_auditevent", "Can erase personal data"),
                ],
                "verbose_name": "audit event",
                "verbose_name_plural": "audit events",
            },
        ),
    ]
