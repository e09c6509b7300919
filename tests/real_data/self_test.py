"""scripts/real-data on packages of its own making, without a network: what it chooses, checks, refuses and continues.

    python3 tests/real_data/self_test.py DIR        leaves the sets in DIR, for tests/real_data.rs to open with the program's own reader

A server in this process stands for the registries; it breaks off the first download half way.
"""
import hashlib
import http.server
import importlib.machinery
import importlib.util
import io
import json
import struct
import sys
import tarfile
import threading
import zlib
from pathlib import Path

sys.dont_write_bytecode = True
SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts/real-data"
loader = importlib.machinery.SourceFileLoader("real_data", str(SCRIPT))
real = importlib.util.module_from_spec(importlib.util.spec_from_loader("real_data", loader))
loader.exec_module(real)
real.time.sleep = lambda seconds: None


def png(red, green, blue, alpha):
    """A picture of 4 × 4 pixels of one colour."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes([red, green, blue, alpha]) * 4 for _ in range(4))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 6, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wav(number):
    """A sound of a quarter of a second that no other number gives: what a file is its content says, not its suffix."""
    data = b"".join(struct.pack("<h", (i * (number + 3) * 37) % 2000) for i in range(2000))
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + b"data" + struct.pack("<I", len(data)) + data


def tar(files, mode):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def deb(files):
    member = lambda name, data: f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.xz", b"odd") + member("data.tar.xz", tar(files, "w:xz"))


def packages():
    """{file name: bytes}: forty things of each kind, and of each thing that must be left out one."""
    entry = lambda image, name, category, **more: {"name": name, "short_name": "short_name", "image": image, "category": category, **{f"has_img_{s}": True for s in real.STYLES}, **more}
    table = [entry(f"{i}.png", f"THING_{chr(97 + i % 26)}{chr(97 + i // 26)}", real.CATEGORIES[i % 5]) for i in range(40)]
    table += [entry("face.png", "GRINNING FACE", "Smileys & Emotion"), entry("clock.png", "CLOCK FACE ONE OCLOCK", "Travel & Places")]
    table += [entry("keycap.png", "BUTTON 10", "Objects"), entry("new.png", "SHOVEL", "Objects", has_img_facebook=False), entry("odd.png", None, "Objects")]
    made = {}
    for s, style in enumerate(real.STYLES):
        files = {"package/emoji.json": json.dumps(table).encode()}
        files.update({f"package/img/{style}/64/{e['image']}": png(5 * i, 80 * s, 9, 128) for i, e in enumerate(table) if e[f"has_img_{style}"]})
        made[f"emoji-datasource-{style}-16.0.0.tgz"] = tar(files, "w:gz")
    files, number = {}, 0
    for i in range(40):
        stem = f"{real.STAMPS}{'animals/birds' if i % 2 else 'food'}/it-{i}"
        files[f"{stem}.png"], files[f"{stem}.txt"] = png(i, 1, 2, 255), f"A thing {chr(97 + i % 26)}{chr(97 + i // 26)}.\nfr.utf8=Une chose\n".encode()
        for language in list(real.LANGUAGES)[: 3 + i % 6]:
            files[f"{stem}_desc_{language}.ogg"] = wav(number := number + 1)
    again = lambda name, png_of, text, languages: {
        f"{real.STAMPS}{name}.png": png_of, f"{real.STAMPS}{name}.txt": text.encode(), **{f"{real.STAMPS}{name}_desc_{l}.ogg": data for l, data in languages.items()}}
    first = f"{real.STAMPS}food/it-0"
    recordings = {l: files[f"{first}_desc_{l}.ogg"] for l in ("be", "bg", "ca")}
    files.update(again("town/twin", png(1, 0, 1, 255), "Another name", recordings))  # another picture of what was recorded once
    files.update(again("town/copy", files[f"{first}.png"], "A copy", recordings))  # a picture that is there already
    files.update(again("town/two", png(1, 1, 1, 255), "Two languages", {"be": wav(9001), "bg": wav(9002)}))
    files.update(again("town/sum", png(1, 2, 1, 255), "1 + 1 = 2", {l: wav(9003 + i) for i, l in enumerate(("be", "bg", "ca"))}))
    files.update(again("symbols/sign", png(1, 3, 1, 255), "A sign", {l: wav(9006 + i) for i, l in enumerate(("be", "bg", "ca"))}))
    made[real.DEB] = deb(files)
    return made


class Server(http.server.BaseHTTPRequestHandler):
    files, asked = {}, []

    def do_GET(self):
        data = self.files.get(self.path.strip("/"))
        if data is None:
            return self.send_error(404)
        start = int((self.headers["Range"] or "bytes=0-")[6:-1])
        self.asked.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        broken = len(self.asked) == 1
        self.wfile.write(data[start : len(data) // 2] if broken else data[start:])

    def log_message(self, *_):
        pass


def refused(expected, *call):
    try:
        real.build(*call)
    except real.Problem as problem:
        assert expected in str(problem), f"expected {expected!r}, found: {problem}"
    else:
        raise AssertionError(f"expected {expected!r}, and nothing was refused")


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf8").splitlines()]


def main(out):
    made = packages()
    Server.files = {**made, "false": made[real.DEB][:-1] + b"?"}
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    listed = {name: (hashlib.sha256(data).hexdigest(), [f"{at}/{name}"]) for name, data in made.items()}
    listed[real.DEB] = (listed[real.DEB][0], [f"{at}/false", f"{at}/missing", f"{at}/{real.DEB}"])
    sets, cache, kinds = dict.fromkeys(real.SETS, ""), out / "download", ("emoji", "stamps", "speech")

    real.build(out, cache, ["emoji"], listed, sets)
    assert Server.asked[1] > 0 and not list(cache.glob("*.part")), f"a broken download begins where it broke: {Server.asked}"
    assert not (out / "stamps").exists(), "only what was asked for"
    real.build(out, cache, kinds, listed, sets)

    # What is chosen: forty things, and each style is once the one that is asked about.
    for style in real.STYLES:
        rows = rows_of(out / f"emoji-without-{style}")
        assert len(rows) == 120 + 3, len(rows)  # "short_name" stands in where there is no name
        assert all((row["split"] == "test_style") == row["file_name"].startswith(style) for row in rows)
        assert rows[0]["text"] == "animals & nature: thing aa" and rows[0]["attributes"] == {"category": "animals & nature"}, rows[0]
    google, twitter = (out / f"emoji-without-{s}/google/3.png" for s in ("google", "twitter"))
    assert google.samefile(twitter) and google.read_bytes() == png(15, 0, 9, 128), "linked, as it was in the package"

    rows = rows_of(out / "stamps")
    splits = {split: [row for row in rows if row["split"] == split] for split in ("train", "test_recording", "test_stamp")}
    assert all(splits.values()) and sum(map(len, splits.values())) == len(rows) and len({row["image"] for row in rows}) == 41, splits
    of = lambda split, column: {row[column] for row in splits[split]}
    assert of("test_recording", "image") <= of("train", "image") and not of("test_recording", "audio") & of("train", "audio")
    assert not of("test_stamp", "image") & of("train", "image") and not of("test_stamp", "text") & of("train", "text")
    # Two stamps with one recording are on one side.
    side = lambda word: {row["split"] == "test_stamp" for row in rows if word in row["image"]}
    assert side("it-0.") == side("twin") and len(side("twin")) == 1 and not side("copy") and not side("two") and not side("sum") and not side("sign")
    spoken = rows_of(out / "speech")
    assert [row["audio"] for row in spoken] == [row["audio"] for row in rows]
    assert all((row["split"] == "test_word") == (other["split"] == "test_stamp") for row, other in zip(spoken, rows))
    assert (out / "speech" / spoken[0]["audio"]).samefile(out / "stamps" / spoken[0]["audio"])
    assert "CC BY 4.0" in (out / "README.md").read_text(encoding="utf8")

    # What is complete is checked and not built again; what is not is refused; what is missing is built, the same to the byte.
    digests = {name: real.digest(out / name) for name in sets}
    asked = len(Server.asked)
    real.build(out, cache, kinds, listed, digests)
    (out / "speech/metadata.jsonl").rename(out / "aside.jsonl")
    refused("not what this script builds", out, cache, ["speech"], listed, digests)
    assert (out / "aside.jsonl").exists()
    (out / "speech").rename(out.parent / "moved")
    real.build(out, cache, ["speech"], listed, digests)
    (out / "aside.jsonl").unlink()
    refused("a fault of this script", out.parent / "second", cache, ["stamps"], listed, {**digests, "stamps": "0" * 64})
    assert not (out.parent / "second/stamps").exists() and len(Server.asked) == asked, "all from the cache"

    # A package that is another, and no network.
    server.shutdown()
    server.server_close()
    refused("Get it in another way", out.parent / "third", out.parent / "empty", ["stamps"], listed, sets)
    assert not (out.parent / "third").exists()
    (cache / real.DEB).write_bytes(b"another")
    refused("expected SHA-256", out.parent / "third", cache, ["stamps"], listed, sets)
    # And a choice that would teach what it asks about.
    rows = [{"audio": "a", "text": "french", "split": "train"}, {"audio": "b", "text": "french", "split": "test_word"}]
    real.audit("none", rows, {"a": b"1", "b": b"2"})
    try:
        real.audit("leak", rows, {"a": b"1", "b": b"1"})
        raise AssertionError("a leak was let through")
    except real.Problem as problem:
        assert "b is in the split test_word" in str(problem)
    print("real-data: all as expected")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
