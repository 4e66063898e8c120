"""Whether submissions are alike, and whether a checkpoint comes from its code: for staff alone."""
