"""Larger than one run at a time: processes, Ray, seeds trained together, a split larger than memory."""
