"""Where to look, edits of a segmentation, and what follows from them (`ffn queue`, `proofread`, `apply-edits`)."""
