"""Partitions, coordinates, examples, networks and the training loop."""
