"""LISK (Yang, Qi, Shi, AAAI 2020, arXiv 2002.04170): pictures and their gradients together."""
