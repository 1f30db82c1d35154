"""The control side: keys, claims, commits, receipts, prune. The only place that signs, and that never runs on a rented host."""
