"""Joining pieces of neurons: consensus, decision points, resegmentation, evidence, merges."""
