"""Foundations: geometry, labels, files, locks, signals and messages that every package uses."""
