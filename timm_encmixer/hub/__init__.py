"""The Hugging Face Hub, and nothing about models: verified files of one commit, commits, cards, and the search for keys."""
