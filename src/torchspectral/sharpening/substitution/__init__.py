"""Component substitution: an intensity made of the bands gives way to the PAN."""
