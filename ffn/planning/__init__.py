"""From an image and labels to settings for all stages, each with its reason."""
