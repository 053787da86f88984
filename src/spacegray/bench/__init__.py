"""Measurements side by side: the product against its peer, in one run, on this machine."""
