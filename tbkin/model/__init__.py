"""Batch -> outputs. Knows nothing of files, examples or processes."""
