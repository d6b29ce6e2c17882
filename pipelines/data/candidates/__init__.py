"""Search for candidates: what the names of folders and files, or the rows of a list, call a pair."""
