"""Checkpoints on disk: `store` writes and reads them with Orbax, the others need no JAX."""
