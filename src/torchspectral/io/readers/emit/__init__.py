"""EMIT L1B, L2A and L2B products (NASA/JPL), netCDF-4."""
