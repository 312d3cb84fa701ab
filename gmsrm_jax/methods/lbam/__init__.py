"""LBAM (Xie et al., ICCV 2019, arXiv 1909.00968): attention maps learned from both masks."""
