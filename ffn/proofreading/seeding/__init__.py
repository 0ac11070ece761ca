"""Objects grown live from voxels that a person points at (`ffn seed`)."""
