"""The jobs on the repair bench: what is said of each, and how it is done on a workstation."""
