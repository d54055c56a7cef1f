"""LCSC (Liu et al. 2024): searches over linear combinations of the checkpoints of one training.

``window``: which checkpoints are combined. ``baselines``: averages of the weights, which searches
start from and have to beat. ``weights``: from coefficients to weights, within bounded memory.
``sources``: from weights to images, or features. ``fitness``: how far these are from real ones;
``measuring``: of many candidates, in several processes. ``search_run``: searches, and ``history``,
all that they evaluated, which is their state. ``candidates``: what is selected among, with scores
on the validation split. ``selection``: which of them is the model. ``verification``: values on
the test split. ``landscape``: the fitness around them. ``stage``: what all of these share.
"""
