"""Readers of 3D images: NIfTI, NumPy, TIFF, DICOM and OME-Zarr. `open` holds the table of formats."""
