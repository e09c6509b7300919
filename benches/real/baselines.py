"""What simple methods get right on the sets of scripts/real-data: what a model must beat before anybody calls it able to see or hear.

    python3 -m venv /tmp/real && /tmp/real/bin/pip install numpy pillow scikit-learn soundfile
    /tmp/real/bin/python benches/real/baselines.py real [--only emoji-without-facebook,stamps]

Nearest neighbours and logistic regressions (scikit-learn) on the same files, splits and resolution (48 pixels), of pixels and of histograms of
gradients, which know by hand what a first layer learns. Where a method has a strength to choose,
the best of three on the test itself counts: too good for the method, never for us. Writes benches/real/results/baselines-SET.json.
"""
import argparse
import time
from pathlib import Path

import numpy as np
from common import light, mels, names_a_side, pictures, read, white
from results import EMOJI, SETS, save
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

COPIES = 8  # of each picture to train on, where it says augmented
DECAYS = (3.0, 0.3, 0.03)


class Scores:
    """One line for each method and split, printed and kept."""

    def __init__(self):
        self.rows, self.started = [], time.process_time()

    def add(self, method, split, **shares):
        shares = {name: round(float(np.mean(right)), 4) for name, right in shares.items()}
        self.rows.append({"method": method, "split": split, "scores": shares, "cpu_seconds": round(time.process_time() - self.started, 1)})
        print(f"  {split:15} {method:60}", "  ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items()), flush=True)
        self.started = time.process_time()


def nearest(train, test, metric="euclidean"):
    """Which of `train` is nearest to each of `test`."""
    return NearestNeighbors(n_neighbors=1, metric=metric).fit(train).kneighbors(test, return_distance=False)[:, 0]


def centred(values, mean):
    values = values - mean
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def gradients(pixels):
    """Histograms of oriented gradients (Dalal and Triggs 2005) of `[n, 48, 48, 3]`: cells of 6 pixels, 9 directions, blocks of 2 × 2 cells."""
    dx, dy = np.zeros_like(pixels), np.zeros_like(pixels)
    dx[:, :, 1:-1], dy[:, 1:-1] = pixels[:, :, 2:] - pixels[:, :, :-2], pixels[:, 2:] - pixels[:, :-2]
    strength = np.hypot(dx, dy)
    best = strength.argmax(-1)[..., None]  # of the three colours
    dx, dy, strength = (np.take_along_axis(of, best, -1)[..., 0] for of in (dx, dy, strength))
    direction = np.arctan2(dy, dx) % np.pi / np.pi * 9
    lower = direction.astype(int) % 9
    upper, share = (lower + 1) % 9, direction - direction.astype(int)
    bins = sum(np.where(which[..., None] == np.arange(9), (strength * part)[..., None], 0) for which, part in ((lower, 1 - share), (upper, share)))
    cells = bins.reshape(len(pixels), 8, 6, 8, 6, 9).sum((2, 4))
    blocks = np.concatenate([cells[:, y : y + 7, x : x + 7] for y in (0, 1) for x in (0, 1)], -1)
    blocks = blocks / np.sqrt((blocks**2).sum(-1, keepdims=True) + 1e-3)
    return np.sqrt(blocks.reshape(len(pixels), -1)).astype(np.float32)


def best(answers, truths):
    """Those that are right most often."""
    return max(answers, key=lambda said: np.mean(said == truths))


def regression(train, truths, test, asked):
    return best([LogisticRegression(C=c, max_iter=300).fit(train, truths).predict(test) for c in DECAYS], asked)


def emoji(folder, scores):
    rows, split = read(folder)
    train, test = split == "train", split == "test_style"
    all_pictures = pictures(folder, [row["file_name"] for row in rows])
    texts = np.array([row["text"] for row in rows])
    category = {row["text"]: row["attributes"]["category"] for row in rows}
    truths, asked = texts[train], texts[test]
    judge = lambda method, said: scores.add(method, "test_style", exact=said == asked, category=[category[a] == category[b] for a, b in zip(said, asked)])

    pixels = white(all_pictures)
    judge("1-NN on pixels", truths[nearest(pixels[train], pixels[test])])
    mean = pixels[train].mean(0)
    judge("1-NN on pixels, cosine", truths[nearest(centred(pixels[train], mean), centred(pixels[test], mean), "cosine")])
    components = PCA(100, random_state=0).fit(pixels[train])
    scaled = make_pipeline(components, StandardScaler()).fit(pixels[train])
    of_train, of_test = scaled.transform(pixels[train]), scaled.transform(pixels[test])
    judge("100 components, logistic regression", regression(of_train, truths, of_test, asked))

    random = np.random.default_rng(0)
    mirrors = np.array([not names_a_side(text) for text in truths])
    copies = np.concatenate([white(light(all_pictures[train], random, mirrors)) for _ in range(COPIES)])
    components = PCA(100, svd_solver="randomized", random_state=0).fit(copies[::3])
    judge(f"1-NN on 100 components, {COPIES} augmented copies", np.tile(truths, COPIES)[nearest(components.transform(copies), components.transform(pixels[test]))])
    shapes = gradients(all_pictures[..., :3])
    judge("1-NN on histograms of gradients, cosine", truths[nearest(shapes[train], shapes[test], "cosine")])
    both = [np.concatenate([centred(pixels, mean), weight * centred(shapes, shapes[train].mean(0))], 1) for weight in (0.5, 1, 2)]
    judge("1-NN on pixels and gradients", best([truths[nearest(values[train], values[test])] for values in both], asked))
    components = PCA(300, random_state=0).fit(both[1][train])
    of_train, of_test = components.transform(both[1][train]), components.transform(both[1][test])
    judge("300 components of both, logistic regression", regression(of_train / of_train.std(), truths, of_test / of_train.std(), asked))


def language(folder, rows, train, tests, scores, add):
    """Regressions and neighbours on what is heard: the first half second (the demo preset's), or two seconds. The best of them, for each test."""
    truths = np.array([row.get("attributes", {}).get("language", row["text"]) for row in rows])
    most = {}
    for seconds in (0.5, 2.0):
        frames = mels(folder, [row["audio"] for row in rows], seconds)
        few, every = np.concatenate([frames.mean(1), frames.std(1)], 1), frames.reshape(len(frames), -1)
        for method, values, judge in [
            ("40 bands, mean and deviation, logistic regression", few, LogisticRegression(max_iter=2000)),
            ("all frames, logistic regression", every, LogisticRegression(max_iter=300, C=0.01)),
            ("40 bands, mean and deviation, 5-NN", few, KNeighborsClassifier(5)),
        ]:
            fitted = make_pipeline(StandardScaler(), judge).fit(values[train], truths[train])
            for split, test in tests.items():
                said = fitted.predict(values[test])
                right = said == truths[test]
                add(f"{method}, {seconds} s", split, right)
                if split not in most or right.mean() > most[split].mean():
                    most[split] = right
    return most


def speech(folder, scores):
    rows, split = read(folder)
    language(folder, rows, split == "train", {"test_word": split == "test_word"}, scores, lambda method, split, right: scores.add(method, split, exact=right))


def stamps(folder, scores):
    rows, split = read(folder)
    train, tests = split == "train", {name: split == name for name in ("test_recording", "test_stamp")}
    heard = language(folder, rows, train, tests, scores, lambda method, split, right: scores.add(f"sound: {method}", split, language=right))
    all_pictures = pictures(folder, [row["image"] for row in rows])
    category = np.array([row["attributes"]["category"] for row in rows])
    name = np.array([row["text"].rsplit(", said in ", 1)[0] for row in rows])
    pixels, shapes = white(all_pictures), gradients(all_pictures[..., :3])
    scaled = make_pipeline(PCA(60, random_state=0), StandardScaler()).fit(pixels[train])
    both = np.concatenate([centred(pixels, pixels[train].mean(0)), centred(shapes, shapes[train].mean(0))], 1)
    combined = PCA(100, random_state=0).fit(both[train])
    commonest = max(sorted(set(category[train])), key=list(category[train]).count)
    for each, test in tests.items():
        for method, near in (("1-NN on pixels", nearest(pixels[train], pixels[test])), ("1-NN on histograms of gradients, cosine", nearest(shapes[train], shapes[test], "cosine"))):
            named = name[train][near] == name[test]
            more = {"exact": named & heard[each]} if each == "test_recording" else {}  # no stamp has a name that was trained on
            scores.add(f"picture: {method}; sound: the best of the above", each, **more, category=category[train][near] == category[test], language=heard[each])
        of_train, of_test = combined.transform(both[train]), combined.transform(both[test])
        said = regression(of_train / of_train.std(), category[train], of_test / of_train.std(), category[test])
        scores.add("picture: 100 components of pixels and gradients, logistic regression", each, category=said == category[test])
        said = regression(scaled.transform(pixels[train]), category[train], scaled.transform(pixels[test]), category[test])
        scores.add("picture: 60 components, logistic regression", each, category=said == category[test])
        scores.add(f"picture: always {str(commonest)!r}", each, category=category[test] == commonest)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, help="what scripts/real-data built")
    parser.add_argument("--only", default=",".join(SETS), help="sets, separated by commas [default: all]")
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        print(name)
        scores = Scores()
        {**dict.fromkeys(EMOJI, emoji), "stamps": stamps, "speech": speech}[name](arguments.dir / name, scores)
        save(f"baselines-{name}", what="baselines", set=name, command=f"python benches/real/baselines.py real --only {name}", rows=scores.rows)


if __name__ == "__main__":
    main()
