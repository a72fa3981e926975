"""Frames to columns of trades. Pure."""
