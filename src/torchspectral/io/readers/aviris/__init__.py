"""AVIRIS-Classic, AVIRIS-NG and AVIRIS-3 as ENVI files, with the files of their flight line."""
