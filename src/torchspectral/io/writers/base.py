"""What all writers share, and the metadata format that ties writers to readers.

Every raster that torchspectral writes carries two layers of metadata: what other tools read (band tags, scales,
nodata, CRS, ENVI keys, CF attributes), and one *payload* with everything exact, which our own readers prefer.

The payload is a JSON object (UTF-8, NaN written as null) with these keys:

``version``
    1.
``kind``
    "cube" or "layers".
``name``
    Name of the DataArray, or null.
``attrs``
    All attributes of the value but ``packing`` (lies in the file's own scale and offset, and below), ``glt`` and
    ``nodata`` of float cubes. Class layers keep ``class_names`` (list of str) and ``class_colors`` (list of
    [r, g, b]) here; entry i belongs to the value i.
``bands``
    For cubes: object of lists ``wavelength``, ``fwhm`` (float64 by repr, null for NaN), ``good`` (booleans),
    ``number`` (integers), ``detector`` (strings). For layers: object with the list ``layer`` (names).
``grid``
    ``{"kind": "map"|"rotated"|"swath"|"none", "transform": [six GDAL numbers]|null, "crs_wkt": str|null,
    "size": [rows, cols]}``. A reader trusts it where the file's own size is the same and its own transform is
    absent or equal to within 1e-6 of a pixel (else somebody has cut or edited the file: then the file's own counts).
``nodata``
    The value on disk that means nodata, null where none (NaN is the string "nan").
``packing``
    null, or ``{"scale": [..], "offset": [..], "nodata": value|null}`` of stored integers: physical value =
    stored * scale + offset, a list entry a band or one for all. A reader gives float32 with NaN, and the stored
    integers with ``attrs["packing"]`` where ``raw=True``.

Where it lies
    GeoTIFF: metadata domain ``TORCHSPECTRAL``, one item for each key, each a JSON text.
    ENVI: header key ``torchspectral = {<base64 of the JSON text>}`` (base64 without line breaks). The other keys
    are ENVI's own: ``wavelength``, ``fwhm`` (nm, repr), ``bbl``, ``band names``, ``data ignore value``,
    ``data gain values`` and ``data offset values`` (packed cubes; never also ``reflectance scale factor``),
    ``map info`` (with rotation), ``coordinate system string``; class layers are ``ENVI Classification``.
    Zarr (v3, no sharding): root group, attribute ``torchspectral`` = the JSON object itself; data array named
    after the quantity (cubes) or after the value (layers), dims ``(band|layer, y, x)``; arrays ``wavelength``,
    ``fwhm``, ``good``, ``number``, ``detector`` over band, ``layer`` names in the payload; ``x``, ``y``;
    ``spatial_ref``; swaths add ``lon``, ``lat`` (y, x) and, where there is a lookup table, group ``glt`` with
    arrays ``x``, ``y`` (GLT rows, cols; 1-based, 0 empty) and attributes ``transform`` (six GDAL numbers), ``crs_wkt``.
"""
