"""Synthetic patients as valid DICOM, with their truth."""
