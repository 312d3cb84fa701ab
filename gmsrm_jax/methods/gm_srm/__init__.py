"""GM-SRM: the networks, the two stages of training, and how it fills."""
