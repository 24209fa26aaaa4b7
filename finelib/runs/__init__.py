"""A run: planned by a preset, trained once, kept on disk."""
