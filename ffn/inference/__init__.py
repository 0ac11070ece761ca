"""Segmenting a subvolume with a trained network, and the files that come of it."""
