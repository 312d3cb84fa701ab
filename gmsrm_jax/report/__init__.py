"""A run's result as one HTML file: tables, loss curves and pictures."""
