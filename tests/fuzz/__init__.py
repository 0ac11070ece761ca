"""Damaged and edited files, thousands of them, given to everything that reads files: `make fuzz`.

`loaders` lists what reads files, `mutations` is what is done to them, `run` does it in processes of their own.
"""
