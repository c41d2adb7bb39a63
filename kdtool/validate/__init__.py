"""Validators: report all faults of a folder, by class, and never write into it.  A kind is a file and a line in kdtool/core/inputs.py."""
