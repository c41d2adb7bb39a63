"""Aligning any folder of audio and text with a GMM, and looking at the result."""
