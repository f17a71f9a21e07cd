"""Training data: pictures from folders and tar shards, and the LR/HR pairs made of them."""
