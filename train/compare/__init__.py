"""Runs beside each other: tables of mean and spread over seeds, quality by labels and by compute (paper section 3.2).

compare   the verb
runs      a run directory or a kept checkpoint of one, read from its files
lineage   what a run came from, and what all of it cost
arms      what is compared: facets of a run, its labels, its name beside others
table     runs with one arm and one number of labels, over seeds
report    the page, the pictures, the tables as text
"""
