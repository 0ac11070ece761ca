"""The NumPy core that grows objects: canvas, movement, restrictor, checkpoints."""
