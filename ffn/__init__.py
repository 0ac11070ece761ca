"""Flood-filling networks: tracing neurons in volumes of electron microscopy."""

__version__ = '0.1.0'
