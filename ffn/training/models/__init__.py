"""Moved to `ffn.models.networks`; kept for requests that name `ffn.training.models`."""
