"""SpectralEarth: spectral adapter with ResNet-50 and vision transformers, for any number of bands."""
