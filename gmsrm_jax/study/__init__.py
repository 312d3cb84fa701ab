"""The user study (the paper's Table III): a local page, the votes it stores, and their tally."""
