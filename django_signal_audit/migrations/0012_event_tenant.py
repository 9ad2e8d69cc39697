"""The tenant of an event, and its index."""

from django.db import migrations

import django_signal_audit.models.fields
import django_signal_audit.models.names


class Migration(migrations.Migration):

    dependencies = [
        ('django_signal_audit', '0011_erase_permission'),
    ]

    operations = [
        migrations.AddField(
            model_name='auditevent',
            name='tenant',
            field=django_signal_audit.models.fields.TenantField(blank=True, db_default='', default='', max_length=255, verbose_name='tenant'),
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=django_signal_audit.models.names.TenantIndex(fields=['tenant', 'recorded_at', 'id'], name='dsa_event_tenant'),
        ),
    ]
