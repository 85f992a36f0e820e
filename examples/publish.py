"""The model owner: encrypt a model with your key and publish it on the Hub. The key stays on this machine.

Needs no extra. Run: python examples/publish.py encmixer_768_32.in1k me/encmixer-768-32 --key owner.key
"""

from __future__ import annotations

import argparse

import timm

import timm_encmixer as te


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an encmixer_* name; its plain weights are encrypted as they are loaded")
    parser.add_argument("repo_id", help="owner/name on the Hub")
    parser.add_argument("--key", required=True, help="key file (encmixer key new PATH makes one)")
    parser.add_argument("--public", action="store_true", help="let anyone download the encrypted model")
    arguments = parser.parse_args()

    model = timm.create_model(arguments.model, pretrained=True, key=arguments.key)
    commit = te.push_to_hub(model, arguments.repo_id, private=not arguments.public, key=arguments.key)
    print(commit.commit_url)


if __name__ == "__main__":
    main()
