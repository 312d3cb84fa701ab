"""Weights of other frameworks: converted once to files of numbers, and read from these."""
