"""Networks, files of their weights, settings of their training, and networks compiled for inference."""
