"""Flood-filling networks: tracing neurons in volumes of electron microscopy."""
