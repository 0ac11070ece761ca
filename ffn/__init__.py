"""Flood-filling networks: tracing neurons in volumes of electron microscopy."""

# Semantic versioning. What counts as the interface: commands and their flags, files that are read and
# written, and the Python names that doc/reference.md documents. Before 1.0, a release that breaks one of
# these raises the second number; any other raises the third.
__version__ = '0.2.0'
