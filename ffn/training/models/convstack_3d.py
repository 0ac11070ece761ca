"""Moved to `ffn.models.networks.convstack_3d`; kept for requests and programs that name `ffn.training.models.convstack_3d`."""

from ffn.models.networks.convstack_3d import ConvStack3DFFNModel

__all__ = ['ConvStack3DFFNModel']
