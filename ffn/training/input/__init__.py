"""From coordinates to examples: an endless, reproducible stream of patches."""
