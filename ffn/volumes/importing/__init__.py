"""Volumes from the files of other programs: stacks of images and labels, sections of many formats, instances."""
