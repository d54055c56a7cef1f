"""Runs side by side: what they left behind, and how two of them differ."""
