"""Scoring of filled pictures: fixed masks, four measures, tables by hole ratio."""
