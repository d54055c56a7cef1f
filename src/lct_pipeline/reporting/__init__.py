"""Charts of what a run left, words and numbers for it, and its report."""
