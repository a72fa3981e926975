"""What a running K2 is made of: its processes, started in order, watched and stopped."""
