"""Formats that several rooms share: manifests' rows, what a system is. Imports nothing but kdtool.core."""
