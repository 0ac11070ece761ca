"""Pictures of volumes, segmentations and runs."""
