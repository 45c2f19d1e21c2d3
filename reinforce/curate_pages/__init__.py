"""Offline pages of curation: what was retrieved for which query, duplicates, possible leaks, and a map."""
