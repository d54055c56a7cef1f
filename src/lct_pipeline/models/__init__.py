"""Networks: denoisers, their norms, the autoencoder and the feature extractors."""
