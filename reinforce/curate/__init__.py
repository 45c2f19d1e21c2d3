"""Curation: from a gallery and a few labelled queries to a transfer set (the paper's section 3.4 and appendix B).

docs/architecture.md says what each module is for.
"""
