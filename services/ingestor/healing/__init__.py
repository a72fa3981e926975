"""Missed trades, fetched from the exchange's REST API within its budget."""
