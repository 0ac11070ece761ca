"""What a whole-volume run looks like without ground truth: sizes, fill, borders, merges, time."""
