"""Tests of ffn.assembly."""
