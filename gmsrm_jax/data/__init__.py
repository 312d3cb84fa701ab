"""Pictures and masks for training, and the reading of pictures for everything else."""
