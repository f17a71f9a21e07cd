"""What the networks cost: parameters, MACs, latency, memory (Tables 1 to 3, Figure 1)."""
