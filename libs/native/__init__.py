"""The two loops that Python is too slow for, in C: records to values, and values to columns.

Each has a twin in Python that says the same, which takes over where nothing was compiled.
"""
