"""Generating from a model and measuring what it makes."""
