"""DeepFill V2 (Yu et al., ICCV 2019, arXiv 1806.03589): gated convolutions, coarse then refined."""
