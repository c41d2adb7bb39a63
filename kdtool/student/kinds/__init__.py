"""Kinds of students, one file each; their names are in kdtool/student/registry.py."""
