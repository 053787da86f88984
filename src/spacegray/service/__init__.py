"""The repair bench: what is to be opened to get at a part of the real machine, and the same done
on a workstation, with a record of it.
"""
