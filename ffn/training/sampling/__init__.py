"""Where to train: partition volumes from labels, and balanced coordinates from partitions."""
