"""How a command finds the running K2, and asks it."""
