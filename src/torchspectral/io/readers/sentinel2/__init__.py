"""Sentinel-2 products of ESA, and copies of them as cloud-optimised files."""
