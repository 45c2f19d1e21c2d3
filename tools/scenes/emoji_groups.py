"""Sixty classes for scenes that a teacher can learn well: emoji of unlike things, each drawn in five designs."""

from __future__ import annotations

from scenes.group import Group

_NAMES = """
airplane alarm-clock ambulance automobile avocado balloon banana bell billiards bomb books bread butterfly cactus
camera candle cheese-wedge cherries christmas-tree crab doughnut elephant fire fish frog-face ghost grapes hamburger
high-heeled-shoe hot-beverage house-building ice-cream key koala lemon maple-leaf mushroom octopus owl panda-face
penguin pig-face pineapple robot-face rocket rose sailboat snail snowman-without-snow soccer-ball steam-locomotive
strawberry sunflower television tiger-face tomato trophy tulip turtle watermelon
"""

EMOJI_GROUPS = tuple(Group(name=name, emoji=(f"*/{name}/*",)) for name in _NAMES.split())
