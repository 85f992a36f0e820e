"""Images: read, preprocessed and encrypted as the client does, and labelled for evaluation."""
