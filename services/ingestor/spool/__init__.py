"""Records that Kafka does not take, in bounded local files, first in first out."""
