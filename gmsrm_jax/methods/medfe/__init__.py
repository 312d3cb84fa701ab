"""MEDFE (Liu et al., ECCV 2020, arXiv 2007.06929): structure and texture, filled and equalised."""
