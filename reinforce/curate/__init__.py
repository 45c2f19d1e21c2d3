"""Curation: from a gallery and a few labelled queries to a transfer set (the paper's section 3.4 and appendix B).

embeddings   unit vectors of a gallery or a query set, as all below sees them: an array, or a store of `embed`
"""
