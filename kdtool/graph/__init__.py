"""Training and decoding graphs; the only room that may import k2."""
