"""Raw cubes of line-scan cameras (Headwall, Specim, Resonon, HySpex) with their dark and white references."""
