"""The console: the workstations of one user in a browser tab, on loopback only."""
