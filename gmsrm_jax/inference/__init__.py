"""Filling the holes of any picture: reading, strategies for any size, the network, writing."""
