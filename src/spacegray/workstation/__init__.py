"""One machine as its owner sees it: lifecycle, restore, supervision, shell, events."""
