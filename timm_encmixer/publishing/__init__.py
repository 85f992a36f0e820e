"""Encrypted models on their way to the Hub: checked, described in a card, and committed."""
