"""Items of SpatioTemporal Asset Catalogs."""
