"""The one training loop, and a run that walks the stages of a method."""
