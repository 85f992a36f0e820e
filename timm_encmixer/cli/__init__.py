"""The `encmixer` command line."""

from timm_encmixer.cli.app import main as main
