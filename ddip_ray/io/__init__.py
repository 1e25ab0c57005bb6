"""Files in and out: the acquisition store, the result store and importers. Nothing else touches files.

Heavy readers (zarr, tensorstore, dask, nibabel, ...) are imported inside the functions that need them, so
that importing this package stays cheap enough for a command line's ``--help``.
"""
