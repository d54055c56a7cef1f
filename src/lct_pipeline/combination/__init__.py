"""LCSC (Liu et al. 2024): searches over linear combinations of the checkpoints of one training.

``weights``: which checkpoints are combined, averages that searches start from and have to beat, and
weights from coefficients, within bounded memory. ``sources``: from weights to images, or features.
``fitness``: how far these are from real ones, of many candidates in several processes.
``search_run``: searches, and all that they evaluated, which is their state. ``selection``: the best
EMA, candidates, and which of them is the model, on the validation split. ``verification``: values
on the test split, and the landscape around. ``stage``: what all of these share.
"""
