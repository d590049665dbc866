"""Raw frames of snapshot-mosaic cameras (filters laid over the pixels of one detector)."""
