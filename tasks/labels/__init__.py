"""Labels from tables and masks to rows in the catalog, joined on pseudonyms."""
