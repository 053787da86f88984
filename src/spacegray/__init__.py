"""Spacegray: an all-in-one workstation in software, locked by its own security chip."""

__version__ = "0.1.0"
