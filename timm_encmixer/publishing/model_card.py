"""The model card of an encrypted model: what it is, how a server loads it, how a client encrypts, and what it does not protect.

Only the text between two marks, and the metadata listed in `_metadata`, is ours; the rest of an existing card is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from timm_encmixer.checkpoints.config_file import SEALED_NAME
from timm_encmixer.errors import DataError
from timm_encmixer.hub.card_section import CARD_NAME, place_section, read_card
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.scheme import Scheme

TASK = "image-classification"
TAGS = (TASK, "timm", "encmixer", "perceptual-encryption")


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says.

    Args:
        repo_id: Where it will stand.
        scheme: The public record.
        architecture: timm's name.
        stock: Stock timm knows the architecture by that name.
        provenance: Where the plain weights came from.
        license: Hub licence identifier; None keeps what the card says already.
        sealed: The weights are sealed with age.
        evaluation: The JSON object of `encmixer eval --json`, if there is one.
        results: For the card's model-index.
    """

    repo_id: str
    scheme: Scheme
    architecture: str
    stock: bool
    provenance: Provenance
    license: str | None = None
    sealed: bool = False
    evaluation: Mapping[str, Any] | None = None
    results: Sequence[EvalResult] = ()


def write_card(facts: CardFacts, existing: str | None) -> str:
    """Return the card's whole text.

    Args:
        facts: What to say.
        existing: The card that is there, whose human-written text and metadata are kept.

    Raises:
        SourceError: The metadata of the existing card cannot be read.
    """
    new = f"---\n{{}}\n---\n\n# {facts.repo_id.split('/')[-1]}\n"
    card = read_card(ModelCard, existing if existing is not None else new, where=f"{facts.repo_id}: {CARD_NAME}")
    _metadata(card.data, facts)
    place_section(card, _section(facts))
    return str(card)


def _metadata(data: Any, facts: CardFacts) -> None:
    data.library_name, data.pipeline_tag = "timm", TASK
    data.tags = [*dict.fromkeys([*(data.tags or ()), *TAGS])]
    if facts.license is not None:
        data.license = facts.license
    if facts.provenance.base_model is not None:
        data.base_model = facts.provenance.base_model
    if facts.results:
        data.eval_results, data.model_name = list(facts.results), data.model_name or facts.repo_id.split("/")[-1]


def read_evaluation(
    eval_results: str | Path | Mapping[str, Any] | Sequence[EvalResult] | None,
) -> tuple[Mapping[str, Any] | None, Sequence[EvalResult]]:
    """Return an evaluation and its entries for the model-index.

    Args:
        eval_results: The JSON object that `encmixer eval --json` prints, a file of it, or huggingface_hub's own objects.

    Raises:
        DataError: It is no evaluation.
    """
    if eval_results is None:
        return None, ()
    if isinstance(eval_results, Sequence) and not isinstance(eval_results, str):
        return None, eval_results
    where, value = "eval_results", eval_results
    if isinstance(value, (str, Path)):
        where = str(value)
        try:
            value = json.loads(Path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(where, "the JSON that encmixer eval --json prints", str(error), "make it again") from error
    if not isinstance(value, Mapping) or not {"right_key", "plain", "images"} <= set(value):
        raise DataError(
            where, "the JSON that encmixer eval --json prints", "something else", "make it with encmixer eval --json"
        )
    name = _data_name(value)
    result = EvalResult(
        task_type=TASK,
        dataset_type=name.lower(),
        dataset_name=name,
        dataset_split=value.get("split"),
        metric_type="accuracy",
        metric_name="top-1 accuracy on encrypted images, right key",
        metric_value=round(100 * float(value["right_key"]), 2),
    )
    return value, [result]


def _data_name(evaluation: Mapping[str, Any]) -> str:
    """Return a data set's name, without the folders of the person who measured it."""
    return Path(str(evaluation.get("data") or "unnamed data")).name


def _section(facts: CardFacts) -> str:
    scheme = facts.scheme
    parts = [
        f"## An encrypted `{facts.architecture}`",
        "This model computes on images that were encrypted with the right key what the plain model computes on plain images. "
        "Without the key, or with another one, its answers are of little use. Made with `timm-encmixer`, "
        "after R. Iijima and H. Kiya, [arXiv 2207.11939](https://arxiv.org/abs/2207.11939).",
        "| cipher | block | channels | input | key fingerprint |\n|---|---|---|---|---|\n"
        f"| `{scheme.cipher}` | {scheme.patch_size} px | {scheme.in_chans} | {_input(scheme)} | `{scheme.fingerprint}` |",
        "### On a server: no key, no plain image",
        _sealed_server(facts) if facts.sealed else _server(facts),
        "### On a client: with the key",
        _client(facts),
        "### What the key does not protect",
        _limits(facts),
    ]
    if facts.evaluation is not None:
        parts += ["### Accuracy", _accuracy(facts.evaluation)]
    return "\n\n".join(parts)


def _input(scheme: Scheme) -> str:
    return " x ".join(map(str, scheme.plain.input_size[1:])) + " px" if scheme.plain is not None else "any"


def _server(facts: CardFacts) -> str:
    lines = [
        "import timm",
        f'model = timm.create_model("hf-hub:{facts.repo_id}", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
    ]
    formats = "PNG or JPEG" if facts.scheme.takes_jpeg else "PNG"
    text = f"Stock timm loads it; the transform takes ciphertext {formats} images."
    if not facts.stock:
        lines.insert(1, "import timm_encmixer  # registers the shape's name; needs no key")
        text = "timm has no name for this shape of ConvMixer, so the server installs timm-encmixer too; it needs no key."
    return text + "\n\n```python\n" + "\n".join(lines) + "\n```"


def _sealed_server(facts: CardFacts) -> str:
    return (
        "The weights are sealed with [age](https://age-encryption.org): anyone who runs the model opens them first, with the "
        "identity that they were sealed to. The opened model is an ordinary folder.\n\n```bash\n"
        f"encmixer model open hf-hub:{facts.repo_id} opened --identity identity.txt\n"
        f"# or, without timm-encmixer: age -d -i identity.txt {SEALED_NAME} | tar x\n```\n\n```python\n"
        'import timm\nmodel = timm.create_model("local-dir:opened", pretrained=True).eval()\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n```"
    )


def _client(facts: CardFacts) -> str:
    source = f"hf-hub:{facts.repo_id}"
    if not facts.scheme.exact:
        return (
            f"The ciphertext of `{facts.scheme.cipher}` is a float tensor, which no image file holds.\n\n```python\n"
            f'import timm_encmixer as te\nclient = te.create_transform("{source}", key="owner.key")  # PIL image -> tensor\n```'
        )
    sent, jpeg = "to be sent as PNG, never as JPEG", ""
    if facts.scheme.takes_jpeg:
        sent = "to be sent as PNG, or as JPEG with 4:4:4 sampling"
        jpeg = '\nsender(image).save("ciphertext.jpg", quality=85, subsampling=0)'
    return (
        "Only `config.json` is read from this repository.\n\n```bash\n"
        f"encmixer images encrypt photos ciphertext --key owner.key --model {source}\n```\n\n```python\n"
        f'import timm_encmixer as te\nsender = te.create_transform("{source}", key="owner.key", output="image")\n'
        f'sender(image).save("ciphertext.png")  # PIL image -> ciphertext, {sent}{jpeg}\n```'
    )


def _limits(facts: CardFacts) -> str:
    public = (
        [
            "**The plain weights are public**"
            + (f" ({facts.provenance.base_model})" if facts.provenance.base_model else "")
            + ", so anyone who compares the two stems computes the key at once. This key is a demonstration."
        ]
        if facts.provenance.public
        else ["Anyone with the plain weights, or with weights that these were fine-tuned from, computes the key at once."]
    )
    lines = [
        *public,
        "The key is access control and visual obfuscation at no cost. It does not make images or weights confidential.",
        "Anyone who collects ciphertext images can compute the key from their statistics; one image both plain and "
        "encrypted is enough.",
        "Anyone who runs the model sees the output of its first layer, a fixed linear image of every plain block.",
        "Adversarial examples made on the plain model work on this one.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _accuracy(evaluation: Mapping[str, Any]) -> str:
    wrong = [float(share) for share in (evaluation.get("wrong_keys") or {}).values()]
    rows = [
        ("plain model, plain images", f"{float(evaluation['plain']):.2%}"),
        ("this model, images encrypted with the right key", f"{float(evaluation['right_key']):.2%}"),
        *([("this model, plain images", f"{float(evaluation['no_key']):.2%}")] if "no_key" in evaluation else []),
        *([(f"this model, {len(wrong)} wrong keys", f"{min(wrong):.2%} to {max(wrong):.2%}")] if wrong else []),
    ]
    name = _data_name(evaluation)
    head = f"Measured with `encmixer eval` on {evaluation['images']} images of {name}."
    return head + "\n\n| | top-1 |\n|---|---|\n" + "\n".join(f"| {row} | {value} |" for row, value in rows)
