"""The parts of tools/bench, one a kind of figure; each measures both sides of a ratio in turns, in one run.

inputs -> what is measured on; timing -> how; build_speed, step_cost, online_speed, memory -> the figures.
"""
