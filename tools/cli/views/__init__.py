"""What people and programs see of an answer: tables, panels, pictures, and files."""
