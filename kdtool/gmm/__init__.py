"""Gaussian mixture models, the tree of tied states, and their training."""
