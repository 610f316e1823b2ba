"""Who is in, and on which side: selection, split and fingerprint of the training patients."""
