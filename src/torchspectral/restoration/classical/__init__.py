"""Classical denoisers: by band, along the spectrum, along the columns, and over all at once."""
