"""Moved to `ffn.inference.core.canvas`; kept for requests and programs that name `ffn.inference.canvas`."""

from ffn.inference.core.canvas import Canvas

__all__ = ['Canvas']
