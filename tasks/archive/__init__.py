"""From an archive of images to facts, pseudonyms and volumes: the only wing that sees identities."""
