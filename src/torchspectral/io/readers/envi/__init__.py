"""ENVI headers with flat binary files."""
