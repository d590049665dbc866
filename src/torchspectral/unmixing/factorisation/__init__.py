"""Blind unmixing by factorising the scene, Y = M A: endmembers and abundances are found together."""
