"""The exchange's side: connections, their sessions, what it lists."""
