"""Scenes with true masks for `make_scenes.py`: clip art and cut-out photographs pasted onto backgrounds.

group        what a class is: places in the assets
groups       the classes, and which are asked for
fine_groups  many classes of one kind of thing each
objects      decoded, filtered cut-outs without near-duplicates, split between train and test
backgrounds  photographs, patterns, gradients and plain colours, split likewise
compose      which objects a scene gets and where; image and mask
"""
