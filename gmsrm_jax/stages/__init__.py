"""The two stages of training: the generative memory, then inpainting with the memory frozen."""
