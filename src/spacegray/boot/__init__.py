"""The boot chain above the chip: who signs, what may start, and what was found on a disk."""
