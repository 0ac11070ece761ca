"""How good a segmentation is, against ground truth."""
