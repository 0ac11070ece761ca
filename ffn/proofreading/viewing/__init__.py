"""What a segmentation and all that belongs to it look like in Neuroglancer (`ffn view`)."""
