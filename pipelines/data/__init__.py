"""From any source to checked, split, fingerprinted pairs, and to training batches."""
