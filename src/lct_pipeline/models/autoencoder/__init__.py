"""Autoencoders: coding, fitting a small one, and how well they give images back."""
