"""Measurements; a package, as Keras 3.3 installs one of this name that would come first otherwise."""
