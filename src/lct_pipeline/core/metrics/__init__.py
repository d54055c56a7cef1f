"""How far two sets of features are apart, and what the difference is made of."""
