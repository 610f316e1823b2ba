"""Parts of the store: immutable Zarr v3 groups with one writer each, checked on every read."""
