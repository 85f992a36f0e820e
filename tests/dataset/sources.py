"""Small data sets of every kind, made of the bundled real images."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import datasets
from PIL import Image

from timm_encmixer.bundled import bundled_images

datasets.disable_progress_bars()


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def table(start: int, stop: int) -> datasets.Dataset:
    images, labels, classes = bundled_images()
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=classes), "caption": datasets.Value("string")}
    )
    rows = [row % len(images) for row in range(start, stop)]
    cells = [{"bytes": jpeg(images[row]), "path": f"{row:04d}.jpg"} for row in rows]
    return datasets.Dataset.from_dict(
        {"img": cells, "label": [labels[row] for row in rows], "caption": [f"number {row}" for row in rows]}, features=features
    )


def parquet(folder: Path, shards: int = 3, rows: int = 30) -> Path:
    """shards - 1 shards of a training split, of sizes that do not divide evenly, and one of a test split."""
    folder.mkdir(parents=True)
    for shard in range(shards - 1):
        part = table(shard * rows, shard * rows + rows - shard)
        part.to_parquet(folder / f"train-{shard:05d}-of-{shards - 1:05d}.parquet")
    table(shards * rows, shards * rows + rows // 2 + 1).to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


def arrow(folder: Path) -> Path:
    splits = {"train": table(0, 41), "test": table(41, 60)}
    datasets.DatasetDict(splits).save_to_disk(folder, num_shards={"train": 2, "test": 1})
    return folder


def imagefolder(folder: Path, count: int = 12) -> Path:
    images, labels, classes = bundled_images()
    for split, rows in (("train", range(count)), ("test", range(count, count + count // 2))):
        for row in rows:
            target = folder / split / classes[labels[row]] / f"{row:04d}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(jpeg(images[row]))
    return folder


def webdataset(folder: Path, shards: int = 2, samples: int = 20) -> Path:
    images, labels, _ = bundled_images()
    folder.mkdir(parents=True)
    for shard in range(shards):
        with tarfile.open(folder / f"train-{shard:04d}.tar", "w") as tar:
            for row in range(shard * samples, (shard + 1) * samples):
                members = {
                    "jpg": jpeg(images[row]),
                    "cls": str(labels[row]).encode(),
                    "json": json.dumps({"row": row}).encode(),
                }
                for field, content in members.items():
                    info = tarfile.TarInfo(f"{row:06d}.{field}")
                    info.size, info.mtime = len(content), 1_700_000_000 + row
                    tar.addfile(info, io.BytesIO(content))
    return folder


KINDS = {"parquet": parquet, "arrow": arrow, "imagefolder": imagefolder, "webdataset": webdataset}


def read(folder: Path, split: str) -> datasets.Dataset:
    """What the library `datasets` makes of a folder."""
    if (folder / "dataset_dict.json").exists():
        return datasets.load_from_disk(str(folder))[split]
    return datasets.load_dataset(str(folder), split=split, cache_dir=str(folder.parent / f"cache-{folder.name}"))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
