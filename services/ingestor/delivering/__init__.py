"""Records to Kafka, in order, and where they wait."""
