"""MAN: mixed attention network."""
