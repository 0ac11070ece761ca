"""Multi-resolution volumes for viewers, and serving them."""
