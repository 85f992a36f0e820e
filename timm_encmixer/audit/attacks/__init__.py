"""The attacks, one file each, and their registry."""
