"""Moved to `ffn.inference.core.movement`; kept for requests and programs that name `ffn.inference.movement`."""

from ffn.inference.core.movement import FaceMaxMovementPolicy, MovementView

__all__ = ['FaceMaxMovementPolicy', 'MovementView']
