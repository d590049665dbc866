"""The `.hsi` accessor (its owner fills it in)."""
