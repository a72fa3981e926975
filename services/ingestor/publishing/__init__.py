"""The sequence check, what Kafka has of it, and records from columns."""
