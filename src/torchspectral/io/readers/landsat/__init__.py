"""Landsat products of USGS."""
