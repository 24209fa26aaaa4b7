"""Corpora: readers of files, downloads and generators, and the ragged frames, splits and batches they give."""
