"""From an archive to facts, pseudonyms and volumes: the only wing that sees identities."""
