"""SoftCon: encoders for Sentinel-2 (13 bands) and Sentinel-1 (2 bands)."""
