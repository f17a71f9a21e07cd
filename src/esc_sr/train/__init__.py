"""Training: recipes, schedule, checkpoints, and the one loop that runs them."""
