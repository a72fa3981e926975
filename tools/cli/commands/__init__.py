"""What one may type, a module for each group of commands."""
