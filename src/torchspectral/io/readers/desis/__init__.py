"""DESIS products of DLR."""
