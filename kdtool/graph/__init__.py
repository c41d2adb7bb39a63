"""Training and decoding graphs; the only package that may import k2."""
