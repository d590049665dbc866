"""Hyperion products of USGS."""
