"""Whether encryption keeps what it promises: accuracy by key, exactness of logits, and the demo."""
