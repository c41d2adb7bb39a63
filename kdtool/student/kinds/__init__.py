"""Kinds of students, a file each; their names are in kdtool/student/registry.py."""
