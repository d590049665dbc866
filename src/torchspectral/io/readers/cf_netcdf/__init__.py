"""netCDF-4 and HDF5 files of any writer."""
