"""Flood-filling networks: tracing neurons in volumes of electron microscopy."""

import os
import platform

# TensorFlow reads this when it is loaded. Without it, oneDNN stays off on processors that have neither AVX-512 nor
# AMX, where Eigen's 3-d convolutions take twice as long.
if platform.machine().lower() in ('x86_64', 'amd64'):
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')

# Semantic versioning. What counts as the interface: commands and their flags, files that are read and
# written, and the Python names that doc/reference.md documents. Before 1.0, a release that breaks one of
# these raises the second number; any other raises the third.
__version__ = '0.2.0'
