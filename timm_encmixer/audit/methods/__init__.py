"""What attacks are made of: statistics, matching, alignment and training."""
