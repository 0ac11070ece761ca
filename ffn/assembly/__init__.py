"""From subvolumes to a whole volume: tiling, running them all, one id space, one output."""
