"""Offline pages of curation: what was retrieved for which query, duplicates, possible leaks, and a map.

page          the whole: from curated sets to an HTML file
pictures      thumbnails of a set's images, of the originals behind them, and of target images
contribution  how many items each query brought, at which ranks
retrieved     queries beside what they brought (figures 6, 8 and 9)
strategies    several sets of one gallery side by side
clusters      duplicates and which one stayed
leak_review   possible leaks beside target images, with buttons whose decisions become a CSV
sample_map    vectors of the set as places of a map
map_plot      the map's drawing (figure 10)

A page is a function of the sets, of the images that are at hand, and of this machine's libraries: no time, host or path
is on it. Names and keys are foreign text; a page runs nothing but the script of the leak review, known by its hash.
"""
