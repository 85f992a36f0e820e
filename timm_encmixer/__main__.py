"""`python -m timm_encmixer` is the `encmixer` command."""

from timm_encmixer.cli import main

if __name__ == "__main__":
    main()
