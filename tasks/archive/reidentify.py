SERIES_FROM = 9000
MARKED = "YES"
METHOD = "radloop: made of pseudonyms and kept fields, no header copied"
