"""Scenes in MATLAB files."""
