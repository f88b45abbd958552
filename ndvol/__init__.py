"""ndvol: volumes from DICOM, NIfTI and picture series in HDF5, and the windows that training wants of them."""

__version__ = "0.1.0"
