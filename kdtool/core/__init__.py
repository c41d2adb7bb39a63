"""Plumbing that knows no model: errors, options, steps, jobs, tables, tensors, progress."""
