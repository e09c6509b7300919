#!/usr/bin/env python3
"""Writes the small Parquet files in tests/parquet/ with the programs that people write them with, and what should be read out of them.

    python3 -m venv /tmp/parquet && /tmp/parquet/bin/pip install datasets polars pillow soundfile
    /tmp/parquet/bin/python scripts/parquet-fixtures.py

The files' bytes depend on the versions of these programs, what is in them does not; tests/parquet.rs reads it.
"""

import io
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio, ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Pillow

OUT = Path(__file__).resolve().parent.parent / "tests/parquet"


def png(grey: int) -> bytes:
    """A picture of 4 × 4 pixels, all of them this grey."""
    out = io.BytesIO()
    Pillow.fromarray(np.full((4, 4, 3), grey, "uint8")).save(out, "PNG")
    return out.getvalue()


def wav(value: int) -> bytes:
    """Eight samples of this value at 16 kHz."""
    data = struct.pack("<8h", *[value] * 8)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" + struct.pack("<I", len(data)) + data


def image(i: int) -> dict:
    return {"bytes": png(i), "path": f"{i}.png"}


def hugging_face() -> None:
    """As `Dataset.to_parquet` writes it: contents of files uncompressed, words compressed with Snappy, an index of pages."""
    features = Features({"image": Image(), "audio": {"bytes": Value("binary"), "path": Value("string")}, "text": Value("string"), "label": ClassLabel(names=["cat", "dog"]), "width": Value("int32")})
    rows = range(7)
    data = {
        "image": [image(i) for i in rows],
        "audio": [{"bytes": wav(i), "path": f"{i}.wav"} if i != 2 else None for i in rows],
        "text": [f"caption {i}" for i in rows],
        "label": [i % 2 for i in rows],
        "width": [4 for _ in rows],
    }
    # To encode a sound `datasets` wants PyTorch; here it is encoded already.
    whole = Dataset.from_dict(data, features=features).cast_column("audio", Audio())
    for name, part in (("train-00000-of-00002", range(0, 3)), ("train-00001-of-00002", range(3, 5)), ("test-00000-of-00001", range(5, 7))):
        whole.select(part).to_parquet(OUT / "hub/data" / f"{name}.parquet")


def attributes() -> None:
    """What rows declare about themselves: members of a structure, one of them with the names of classes; and a text with JSON in it."""
    features = Features({"text": Value("string"), "attributes": {"animal": ClassLabel(names=["cat", "dog"]), "colour": Value("string"), "legs": Value("int32"), "tags": List(Value("string"))}})
    rows = [{"animal": 0, "colour": "red", "legs": 4, "tags": ["a", "b"]}, {"animal": 1, "colour": None, "legs": 3, "tags": []}]
    Dataset.from_dict({"text": ["a red cat", "a dog"], "attributes": rows}, features=features).to_parquet(OUT / "attributes.parquet")
    pl.DataFrame({"text": ["a red cat", "a dog"], "attributes": ['{"animal": "cat", "legs": 4, "tags": ["a"]}', "no JSON"]}).write_parquet(OUT / "attributes_json.parquet")


def lists() -> None:
    """Lists: none, one and several pictures; captions to choose from; a null; an empty row; two lists of different lengths."""
    features = Features({"images": List(Image()), "captions": List(Value("string")), "label": ClassLabel(names=["cat", "dog"])})
    data = {
        "images": [[image(0)], [image(1), image(2)], [], [image(3), image(4)], [image(5)], None],
        "captions": [["a", "b", "c"], ["d", "e"], ["f"], ["g", "h", "i"], ["j", None], None],
        "label": [0, 1, 0, 1, 0, 1],
    }
    Dataset.from_dict(data, features=features).to_parquet(OUT / "lists.parquet")


def arrow() -> None:
    """pyarrow's other choices: no compression of pages' levels (version 2), gzip, zstd, deltas, many pages and row groups, plain bytes."""
    struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "image": pa.array([image(i % 5) for i in range(40)], struct_type),
            "text": [f"the same beginning, then {i}" for i in range(40)],
            "split": ["train"] * 30 + ["test"] * 10,
        }
    )
    pq.write_table(table, OUT / "zstd.parquet", compression="zstd", row_group_size=15, use_dictionary=False, data_page_size=300, write_batch_size=2)
    pq.write_table(table, OUT / "gzip.parquet", compression="gzip", data_page_version="2.0", use_dictionary=["image.bytes", "text"])
    encodings = {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY", "text": "DELTA_BYTE_ARRAY", "split": "DELTA_BYTE_ARRAY", "image.path": "PLAIN"}
    pq.write_table(table, OUT / "delta.parquet", compression="snappy", data_page_version="2.0", use_dictionary=False, column_encoding=encodings)
    bare = pa.table({"img": pa.array([png(i) for i in range(3)], pa.binary()), "label": pa.array([2, 0, 1], pa.int32()), "nested": [{"text": f"n{i}"} for i in range(3)]})
    pq.write_table(bare, OUT / "bare.parquet", compression="none")
    nulls = pa.table(
        {
            "image": pa.array([image(0), {"bytes": None, "path": "beside.png"}, None, {"bytes": None, "path": "../secret.png"}, {"bytes": None, "path": None}], struct_type),
            "text": ["zero", "one", "two", "three", None],
        }
    )
    pq.write_table(nulls, OUT / "nulls.parquet")
    pq.write_table(bare, OUT / "brotli.parquet", compression="brotli")


def polars() -> None:
    """polars compresses with zstd unless told otherwise."""
    frame = pl.DataFrame({"image": [image(i) for i in range(5)], "text": [f"polar {i}" for i in range(5)]})
    frame.write_parquet(OUT / "polars.parquet")


if __name__ == "__main__":
    (OUT / "hub/data").mkdir(parents=True, exist_ok=True)
    for write in (hugging_face, attributes, lists, arrow, polars):
        write()
    for path in sorted(OUT.rglob("*.parquet")):
        print(path.relative_to(OUT), path.stat().st_size)
