"""Random changes of examples that leave them plausible: geometry, then intensity."""
