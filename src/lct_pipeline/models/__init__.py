"""Networks: denoisers and their layers, the autoencoder and the feature extractors."""
