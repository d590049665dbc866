"""Self-calibration: gains and object found together, and the detector gains of imaging spectrometers by it."""
