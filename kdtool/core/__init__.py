"""Infrastructure without models: errors, options, steps, jobs, tables, tensors, progress."""
