"""Figures from tables, and progress on long work."""
