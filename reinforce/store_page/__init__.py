"""One offline page about a store: what its views look like, what the teacher says of them, how exactly it is kept.

page         the whole: from a store's folder to an HTML file
targets      sampled rows, or cells of maps: probabilities, the classes' shares, entropy, confidence
gallery      replayed views with the teacher's best classes, or its map over them
maps         the classes of a map's pixels, as a picture and as shares
view_words   what was done to an image, in words
certificate  fidelity against bytes, as promised, measured when the store was planned, and certified
provenance   teacher, transfer set, policy, environment, licence

The page is a function of the store, the transfer set and this machine's libraries: no time, host or path is on it.
"""

from reinforce.store_page.page import WrittenPage, write_store_page

__all__ = ["WrittenPage", "write_store_page"]
