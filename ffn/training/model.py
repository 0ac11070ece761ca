"""Moved to `ffn.models.model`; kept for requests and programs that name `ffn.training.model`."""

from ffn.models.model import FFNModel, ModelInfo

__all__ = ['FFNModel', 'ModelInfo']
