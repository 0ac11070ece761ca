"""Seeing, seeding and correcting a segmentation in Neuroglancer; edits and what follows from them."""
