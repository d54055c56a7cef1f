"""Averages of the weights: a bank of them kept in training, and their profiles."""
