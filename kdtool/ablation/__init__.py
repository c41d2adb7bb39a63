"""Many systems, several seeds: which to train, and the table of what they gained."""
