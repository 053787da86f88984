"""The product: its line, its options, its history and its prices, each figure with its source.

Everything here is data about the real machine and its neighbours. Nothing in it knows a
workstation; it imports the ground floor only.
"""
