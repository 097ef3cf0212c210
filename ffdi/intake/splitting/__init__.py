"""images.csv -> folds.csv: a test set and folds that share no group and no near-duplicates."""
