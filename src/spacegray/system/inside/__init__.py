"""What runs within the build's user namespace, where the packages' owners are real.

Only the standard library is at hand there, and only the files of this folder.
"""
