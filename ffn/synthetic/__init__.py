"""A generated sample that looks like electron microscopy of neuropil, with its ground truth.

It stands in for real data where none can be shipped: in the demo and in tests.
"""

from ffn.synthetic.sample import Sample, generate, write_sample

__all__ = ['Sample', 'generate', 'write_sample']
