"""Validators: say all that is wrong with a folder, by class, and never write into it.  A kind is a file and a line in registry.py."""
