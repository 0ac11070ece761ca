"""Networks, their weights and checkpoints, and what turns them into predictors."""
