"""Numbers that describe a region of an image, as the IBSI reference manual defines them."""
