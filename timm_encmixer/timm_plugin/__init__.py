"""The names `encmixer_*` in timm's registry, and what building one does."""
