"""Endmembers from the geometry of the scene: extreme pixels, and simplices around them."""
