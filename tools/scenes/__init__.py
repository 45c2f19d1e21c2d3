"""Scenes with true masks for `make_scenes.py`: clip art and cut-out photographs pasted onto backgrounds.

groups       which folders of the assets make up a class
objects      decoded, filtered cut-outs without near-duplicates, split between train and test
backgrounds  photographs, patterns, gradients and plain colours, split likewise
compose      which objects a scene gets and where; image and mask
"""
