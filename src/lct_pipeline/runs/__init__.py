"""Runs side by side: what they left behind, how two differ, and the commands that say so."""
