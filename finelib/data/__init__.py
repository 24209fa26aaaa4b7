"""From files, downloads and generators to ragged frames, splits and batches."""
