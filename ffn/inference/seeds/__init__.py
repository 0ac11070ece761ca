"""Seed policies: where objects are started, and in which order."""
