"""Exchange to Kafka."""
