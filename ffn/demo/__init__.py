"""The whole pipeline on a generated sample, with a report: `ffn demo`."""
