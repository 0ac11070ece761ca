"""Moved to `ffn.models.model`; kept for programs that subclass `ffn.training.model.FFNModel`."""

from ffn.models.info import ModelInfo
from ffn.models.model import FFNModel

__all__ = ['FFNModel', 'ModelInfo']
