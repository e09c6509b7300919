#!/usr/bin/env python3
"""Writes the sounds and pictures of crates/trimodal-data/tests/media, and what libsndfile and Pillow read in them (golden.json).

    python3 -m venv venv && venv/bin/pip install soundfile==0.14.0 pillow numpy
    venv/bin/python scripts/golden_media.py

Sounds: every 29th frame, channels averaged, as libsndfile gives them. Pictures: all pixels as Pillow gives them, over white, upright.
"""

import json
from pathlib import Path

import numpy as np
import PIL
import soundfile
from PIL import Image, ImageOps

OUT = Path(__file__).resolve().parent.parent / "crates/trimodal-data/tests/media"
STEP = 29


def sounds(golden: dict) -> None:
    t = np.arange(1200) / 16000
    mono = 0.5 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 3000 * t)
    stereo = np.stack([mono, -0.5 * mono], 1)
    kinds = {
        "mono.flac": (mono, 16000, "FLAC", "PCM_16"),
        "stereo.flac": (stereo, 22050, "FLAC", "PCM_24"),
        "mono.ogg": (mono, 16000, "OGG", "VORBIS"),
        "stereo.ogg": (stereo, 22050, "OGG", "VORBIS"),
        "mono.mp3": (mono, 16000, "MP3", "MPEG_LAYER_III"),
        "stereo.mp3": (stereo, 44100, "MP3", "MPEG_LAYER_III"),
        "alaw.wav": (mono[:600], 16000, "WAV", "ALAW"),
        "ulaw.wav": (mono[:600], 16000, "WAV", "ULAW"),
        "ima.wav": (mono[:600], 16000, "WAV", "IMA_ADPCM"),
        "ms.wav": (mono[:600], 16000, "WAV", "MS_ADPCM"),
        "rf64.wav": (mono[:600], 16000, "RF64", "PCM_16"),
        "double.wav": (stereo[:300], 48000, "WAV", "DOUBLE"),
        "extensible.wav": (stereo[:300], 48000, "WAVEX", "PCM_24"),
    }
    for name, (samples, rate, container, kind) in kinds.items():
        soundfile.write(OUT / name, samples, rate, format=container, subtype=kind)
        read, rate = soundfile.read(OUT / name, always_2d=True, dtype="float32")
        # ADPCM has whole blocks; what was written is what counts.
        read = read[: len(samples)]
        values = read.astype("float64").mean(axis=1)[::STEP]
        golden[name] = {"rate": rate, "channels": read.shape[1], "frames": len(read), "values": [float(v) for v in values]}
    soundfile.write(OUT / "opus.ogg", mono, 16000, format="OGG", subtype="OPUS")


def pictures(golden: dict) -> None:
    ramp = (np.arange(12 * 9 * 3).reshape(9, 12, 3) * 7 % 256).astype("uint8")
    picture = Image.fromarray(ramp)
    smooth = Image.fromarray(np.stack([np.add.outer(np.arange(16) * 8, np.arange(16) * 5)] * 3, 2).astype("uint8"))
    clear = picture.convert("RGBA")
    clear.putalpha(Image.fromarray((np.arange(12 * 9).reshape(9, 12) * 2).astype("uint8")))
    turned = Image.Exif()
    turned[0x112] = 6
    picture.save(OUT / "lossless.webp", lossless=True)
    picture.save(OUT / "turned.webp", lossless=True, exif=turned)
    smooth.save(OUT / "lossy.webp", quality=80)
    clear.save(OUT / "alpha.webp", lossless=True, exact=True)
    picture.save(OUT / "animated.webp", save_all=True, append_images=[picture.rotate(180)], duration=100, lossless=True)
    # A baseline JPEG with the tables of annex K, and the same without them: a frame of motion JPEG.
    smooth.save(OUT / "annex-k.jpg", quality=90)
    bytes_, at = bytearray((OUT / "annex-k.jpg").read_bytes()), 2
    without = bytes_[:2]
    while bytes_[at + 1] != 0xDA:
        length = 2 + int.from_bytes(bytes_[at + 2 : at + 4], "big")
        if bytes_[at + 1] != 0xC4:
            without += bytes_[at : at + length]
        at += length
    (OUT / "mjpeg.jpg").write_bytes(without + bytes_[at:])
    for name in ["lossless.webp", "turned.webp", "lossy.webp", "alpha.webp", "animated.webp", "annex-k.jpg", "mjpeg.jpg"]:
        image = ImageOps.exif_transpose(Image.open(OUT / name)).convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        rgb = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
        golden[name] = {"width": image.width, "height": image.height, "rgb": rgb.flatten().tolist()}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    golden = {"made_with": f"libsndfile {soundfile.__libsndfile_version__}, Pillow {PIL.__version__}"}
    sounds(golden)
    pictures(golden)
    (OUT / "golden.json").write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()) + "\n}\n")


main()
