//! Reports in a browser: nothing is fetched, nothing complains, pictures are there, text can be read, by eye, keyboard and ear.

mod chromium;
#[path = "chromium/readable.rs"]
mod readable;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chromium::Chromium;
use readable::is_readable;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::{Command, Output};
use trimodal::report::page::{Card, Cell, Confusion, Curve, Heat, Line, Near, Page, curve_svg, overlay, picture_png, spectrogram_png};

/// A page with one of everything.
fn page() -> Page {
    let mut page = Page::new("What a small model learned", "221,600 parameters, trained on pictures, sounds and words that the program drew.");
    page.section("What was trained");
    page.facts([("data", "16,000 samples".to_string()), ("device", "cpu, with a rather long name that has to wrap on a phone somewhere".into())]);
    let commands = "trimodal demo --seed 0\ntrimodal describe trimodal-demo/model --image trimodal-demo/headline.png --audio trimodal-demo/headline.wav";
    page.lines("commands", commands);
    page.folded("All settings", |page| page.lines("settings", "steps = 5000\nseed = 1"));
    page.section("Curves");
    let loss: Vec<(f64, f64)> = (1..=3000).map(|s| (s as f64, 5.0 / (s as f64).sqrt())).collect();
    let held_out: Vec<(f64, f64)> = (1..=6).map(|s| (500.0 * s as f64, 5.0 / (400.0 * s as f64).sqrt())).collect();
    let rate: Vec<(f64, f64)> = (1..=3000).map(|s| (s as f64, 4e-3 * (1.0 - s as f64 / 3000.0))).collect();
    let curve = |title, unit, lines: &[Line]| curve_svg(&Curve { title, unit, lines, from_zero: unit.is_empty() });
    let lines = [Line { pale: true, ..Line::new("each step", &loss) }, Line::new("training", &loss), Line::new("held out", &held_out)];
    page.figures([
        ("The loss of each step.", curve("loss", "nats per token", &lines)),
        ("The learning rate.", curve("learning rate", "", &[Line::new("learning rate", &rate)])),
    ]);
    page.section("Held-out samples");
    let header = ["", "samples", "exact", "species", "colour", "texture", "pose", "place", "action"];
    let row = |name: &str, share: f64| {
        let shares = [1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.0].map(|part| Cell::Share { share: share * part, mark: Some(1.0 / 6.0) });
        [name.into(), "500".into()].into_iter().chain(shares).collect::<Vec<_>>()
    };
    page.table("Shares of captions that are right", &header, &[row("iid", 1.0), row("held_out_both", 0.7)]);
    let species = Confusion { caption: "Species", names: &["cat", "dog", "bird"], counts: &[vec![48, 2, 0, 3], vec![1, 49, 0, 0], vec![0, 20, 30, 0]] };
    let pose = Confusion { caption: "Pose", names: &["laying on its back", "curled up"], counts: &[vec![48, 2, 0], vec![1, 49, 0]] };
    page.confusions(&[species, pose]);
    page.section("Samples");
    page.heading("Some of the 500 of iid");
    let rgb: Vec<u8> = (0..48 * 48).flat_map(|i| [(i % 48) as u8 * 5, (i / 48) as u8 * 5, 120]).collect();
    let mel: Vec<f32> = (0..50 * 40).map(|i| ((i % 40) as f32 * 0.2).sin() * (i / 40) as f32).collect();
    let weights: Vec<f32> = (0..36).map(|i| if i == 14 { 1.0 } else { 0.05 }).collect();
    let heat = || Heat { word: "cat".into(), picture: picture_png(&overlay(&rgb, 48, 48, &weights, 6).unwrap(), 48, 48).ok(), spectrogram: None };
    let card = |said, truth| Card {
        name: "images/000012.png",
        picture: picture_png(&rgb, 48, 48).ok(),
        spectrogram: spectrogram_png(&mel, 40).ok(),
        wav: Some(trimodal::data::sound::wav(&[0; 800], 16_000).unwrap()),
        asked: "what is it?",
        said,
        truth: Some(truth),
        heats: vec![heat(), heat(), heat()],
        nearest: vec![Near { text: "a striped <grey> dog".into(), picture: picture_png(&rgb, 48, 48).ok() }, Near { text: "rain".into(), picture: None }],
    };
    page.gallery(&[
        card("a fluffy orange cat laying on its back in the sun yawning", "a fluffy orange cat laying on its back in the sun yawning"),
        card("a striped grey dog", "a striped grey cat"),
        card("a spotted brown frog sitting in the rain", "a spotted brown frog sitting in the rain"),
    ]);
    page
}

fn address(file: &Path) -> String {
    format!("file://{}", file.display())
}

#[test]
fn a_page_with_one_of_everything_is_readable_on_a_phone_and_on_a_desk() {
    let Some(mut browser) = Chromium::start(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    page().write(&file).unwrap();
    is_readable(&mut browser, &address(&file), "page", |_| ());
}

fn trimodal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).output().unwrap()
}

/// What a run says on standard output and on standard error; it must succeed.
fn good(arguments: &[&str]) -> (String, String) {
    let output = trimodal(arguments);
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{arguments:?}: {err}");
    (out, err)
}

/// A folder with a small data set, and paths in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        good(&["meadow", &folder.path("data"), "--samples", "60", "--test-samples", "12", "--seed", "5"]);
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }

    fn train(&self, more: &[&str]) -> (String, String) {
        let (data, run) = (self.path("data"), self.path("run"));
        good(&[&["train", &data, "--out", &run, "--steps", "12", "--device", "cpu", "--seed", "9"], more].concat())
    }
}

/// Attributes of tags hold no `>`: what is left is what is read.
fn text(html: &str) -> String {
    let body = html.split("<body>").nth(1).unwrap();
    body.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a page's policy lets run: the script of that hash. A page without a script lets none run.
fn runs_only_its_script(html: &str) {
    let policy = html.split_once("Content-Security-Policy content=\"").and_then(|(_, after)| after.split_once('"')).expect("a policy").0;
    let hash = |script: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)));
    let scripts: Vec<String> = html.split("<script>").skip(1).map(|after| hash(after.split_once("</script>").expect("an end").0)).collect();
    let allowed: Vec<&str> = policy.split("; ").filter_map(|rule| rule.strip_prefix("script-src ")).collect();
    assert!(policy.starts_with("default-src 'none'; ") && allowed == scripts && scripts.len() <= 1, "{policy}: {scripts:?}");
    // Other elements hold data, which a browser does not run.
    assert_eq!(html.matches("<script").count() - html.matches("<script type=\"application/json\">").count(), scripts.len());
}

#[test]
fn a_run_gets_a_report_that_is_readable_and_says_everything() {
    let folder = Folder::new();
    let (said, complaints) = folder.train(&["--set", "eval_split=iid", "--set", "eval_steps=4"]);
    let file = folder.path("run/report.html");
    assert!(said.contains(&format!("report: {file} (")), "{said}");
    assert_eq!(complaints, "");
    let html = std::fs::read_to_string(&file).unwrap();
    assert!(html.len() < 5_000_000, "{} bytes", html.len());
    runs_only_its_script(&html);
    assert!(!html.contains("What it was shown"));
    let text = text(&html);
    for words in [
        "60 train",
        "12 held_out_both",
        "12 of up to",
        "loss, nats per token",
        "gradient norm",
        "learning rate",
        "speed, tokens per second",
        "held out",
        "chance",
        "shuffled pictures",
        "grey pictures",
        "shuffled sounds",
        "silent sounds",
        "species",
        "action",
        "laying on its back",
        "<dt>Seed</dt><dd>9</dd>",
        &format!("trimodal train {}", folder.path("data")),
        "trimodal 0.1.0",
        "learning_rate = ",
    ] {
        assert!(text.contains(words) || html.contains(words), "{words:?} is not in {text}");
    }
    // 4 splits of 12 samples, of which 8 each are shown, with all that they have.
    assert_eq!((html.matches("alt=\"picture: ").count(), html.matches("alt=\"spectrogram: ").count(), html.matches("<audio ").count()), (32, 32, 32));

    // A model of twelve steps is wrong about each: beside it the three that it was trained on and finds most alike.
    assert_eq!(html.matches("alt=\"trained on: ").count(), 3 * 32);

    // Again by itself, elsewhere; where the data set went; and without one.
    let other = folder.path("other.html");
    good(&["report", &folder.path("run"), "--out", &other, "--samples", "3", "--device", "cpu"]);
    assert!(std::fs::read_to_string(&other).unwrap().contains("<dt>iid</dt><dd>3 samples: "));
    std::fs::rename(folder.path("data"), folder.path("moved")).unwrap();
    let (_, complaints) = good(&["report", &folder.path("run"), "--out", &other, "--device", "cpu"]);
    assert!(complaints.contains("no samples in the report: ") && complaints.contains("--data DATA"), "{complaints}");
    let without = std::fs::read_to_string(&other).unwrap();
    assert!(without.contains("Not known: ") && without.contains("gradient norm") && !without.contains("<audio"));
    good(&["report", &folder.path("run"), "--data", &folder.path("moved"), "--out", &other, "--samples", "3", "--device", "cpu"]);
    let wrong = trimodal(&["report", &folder.path("moved"), "--device", "cpu"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", String::from_utf8_lossy(&wrong.stderr));

    let Some(mut browser) = Chromium::start(&[]) else { return };
    is_readable(&mut browser, &address(Path::new(&file)), "run", |_| ());
}

/// What `describe --explain` and `step --html` write.
#[test]
fn where_words_come_from_and_one_step_are_readable_pages() {
    let folder = Folder::new();
    folder.train(&["--no-report"]);
    let (run, data) = (folder.path("run"), folder.path("data"));
    let [why, step] = ["why.html", "step.html"].map(|name| folder.path(name));
    let [image, audio] = ["images/train-000000.png", "audio/train-000000.wav"].map(|name| format!("{data}/{name}"));
    good(&["describe", &run, "--image", &image, "--audio", &audio, "--max-tokens", "4", "--device", "cpu", "--explain", &why]);
    good(&["step", &run, &data, "--html", &step, "--device", "cpu"]);
    for (file, scripts) in [(&why, 1), (&step, 0)] {
        let html = std::fs::read_to_string(file).unwrap();
        runs_only_its_script(&html);
        assert_eq!(html.matches("<script>").count(), scripts);
    }
    let Some(mut browser) = Chromium::start(&[]) else { return };
    is_readable(&mut browser, &address(Path::new(&why)), "explain", |_| ());
    assert_eq!(browser.evaluate("[...document.querySelectorAll('.live')].some(part => part.hidden)"), false, "the script did not run");
    is_readable(&mut browser, &address(Path::new(&step)), "step", |_| ());
    // Every kernel of the step stands there with its place.
    let places = browser.evaluate("[...document.querySelectorAll('.items code:last-child')].filter(c => /\\.(rs|cu|wgsl):\\d+/.test(c.textContent)).length");
    let items = browser.evaluate("document.querySelectorAll('.items li').length");
    assert!(items.as_u64().unwrap() > 60 && items == places, "{places} of {items}");
}

/// What augmentation makes of samples is shown, and only where there was some.
#[test]
fn an_augmented_run_shows_what_it_was_shown() {
    let folder = Folder::new();
    folder.train(&["--set", "augment=light"]);
    let html = std::fs::read_to_string(folder.path("run/report.html")).unwrap();
    runs_only_its_script(&html);
    assert!(html.contains(">What it was shown</h2>") && text(&html).contains("Augmentation (data.augment = &quot;light&quot;"), "{}", text(&html));
    // Six samples as they are, and three visits of each.
    for epoch in 0..3 {
        assert_eq!(html.matches(&format!("<p>epoch {epoch}</p>")).count(), 6);
    }
    assert!(!html.contains("<p>epoch 3</p>"));
}

/// Neither eyes nor ears nor a split, few different captions: what a user's own data may be.
#[test]
fn data_without_splits_or_pictures_gets_an_honest_report() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let lines: Vec<String> = (0..40).map(|i| format!("{{\"text\": \"{}\", \"prompt\": \"{}\"}}\n", ["warm", "cold"][i % 2], ["fire", "ice"][i % 2])).collect();
    std::fs::create_dir_all(folder.path("data")).unwrap();
    std::fs::write(folder.path("data/metadata.jsonl"), lines.concat()).unwrap();
    let (said, _) = folder.train(&[]);
    // A model that has learned from words alone does not pretend to see or to hear.
    assert!(said.contains("the model has no eyes and no ears") && said.contains("run --prompt WORDS\n"), "{said}");
    for (flag, lacks) in [("--image", "eyes"), ("--audio", "ears")] {
        let refused = trimodal(&["describe", &folder.path("run"), flag, "any.file", "--device", "cpu"]);
        let message = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && message.contains(&format!("this model has no {lacks}")), "{message}");
    }
    let html = std::fs::read_to_string(folder.path("run/report.html")).unwrap();
    for words in ["Nothing was held out", "neither pictures nor sounds", "asked: fire", "<th scope=row>warm</th>", "<dt>trained on</dt><dd>40 samples</dd>"] {
        assert!(html.contains(words), "{words:?} is not in {}", text(&html));
    }
}

/// A full disk, and a folder where the file should be: the model is there, and a warning says what to do.
#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_does_not_lose_the_training() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("run")).unwrap();
    for (reason, make) in [
        ("No space left on device", (|file: &str| std::os::unix::fs::symlink("/dev/full", file)) as fn(&str) -> std::io::Result<()>),
        ("Is a directory", |file| std::fs::create_dir(file)),
    ] {
        let file = folder.path("run/report.html");
        make(&file).unwrap();
        let (said, complaints) = folder.train(&[]);
        assert!(said.contains("model: ") && !said.contains("report: "), "{said}");
        for words in ["warning: no report: ", &file, reason, "the model is saved", &format!("`trimodal report {} --out FILE`", folder.path("run"))] {
            assert!(complaints.contains(words), "{words:?} is not in {complaints}");
        }
        good(&["report", &folder.path("run"), "--samples", "2", "--out", &folder.path("elsewhere.html"), "--device", "cpu"]);
        std::fs::remove_dir_all(folder.path("run")).unwrap();
        std::fs::create_dir_all(folder.path("run")).unwrap();
    }
    let (said, _) = folder.train(&["--no-report"]);
    assert!(!said.contains("report") && !Path::new(&folder.path("run/report.html")).exists(), "{said}");
}
