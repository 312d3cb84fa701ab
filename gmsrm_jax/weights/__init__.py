"""Weights made elsewhere: reading their files and converting them to this project's format."""
