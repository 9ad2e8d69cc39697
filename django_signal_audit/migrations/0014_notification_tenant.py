"""The tenant of a notification, and of an object that a user has muted."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('django_signal_audit', '0013_prune_permission'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='mute',
            name='dsa_mute_unique',
        ),
        migrations.AddField(
            model_name='mute',
            name='tenant_key',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name='notification',
            name='tenant',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=255, verbose_name='tenant'),
        ),
        migrations.AddConstraint(
            model_name='mute',
            constraint=models.UniqueConstraint(fields=('user', 'tenant_key', 'model', 'object_id'), name='dsa_mute_unique'),
        ),
    ]
