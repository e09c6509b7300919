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
    page.heading("Others");
    page.sortable(
        "Sorted by what is pressed",
        &["", "ms", "of it"],
        &[
            vec!["b".into(), "1,200".into(), Cell::Value { text: "1.5 KiB".into(), value: 1536.0 }],
            vec!["a".into(), "30".into(), Cell::Nothing],
            vec!["c".into(), "9".into(), Cell::Value { text: "7 bytes".into(), value: 7.0 }],
        ],
    );
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

/// Where there is room the contents stay beside the text and charts stand side by side; on a phone one thing is under the other.
#[test]
fn contents_stay_beside_the_text_and_charts_side_by_side() {
    let Some(mut browser) = Chromium::start(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    page().write(&file).unwrap();
    let places = "(() => { const at = e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom].map(Math.round); }; \
                  return { nav: at(document.querySelector('nav')), main: at(document.querySelector('main')), \
                  figures: [...document.querySelectorAll('.figures figure')].map(at) }; })()";
    for (width, side_by_side) in [(390, false), (1280, true)] {
        browser.resize(width, 844, width < 500);
        browser.open(&address(&file));
        let found = browser.evaluate(places);
        let of = |name: &str, i: usize| found[name][i].as_i64().unwrap();
        let figure = |i: usize, j: usize| found["figures"][i][j].as_i64().unwrap();
        // Left, top, right, bottom.
        assert_eq!(of("nav", 2) <= of("main", 0), side_by_side, "{width}: {found}");
        assert_eq!(of("nav", 3) <= of("main", 1), !side_by_side, "{width}: {found}");
        assert_eq!((figure(0, 1) == figure(1, 1), figure(0, 2) <= figure(1, 0)), (side_by_side, side_by_side), "{width}: {found}");
        // Scrolled down, the contents are still there, and say where the reader is.
        let below = browser.evaluate("new Promise(f => { scrollTo({ top: 1500, behavior: 'instant' }); setTimeout(() => f(document.querySelector('nav').getBoundingClientRect().top), 300); })");
        assert_eq!(below.as_f64().unwrap() >= 0.0, side_by_side, "{width}: {below}");
        let current = "[...document.querySelectorAll('nav a[aria-current]')].map(a => document.querySelector(a.hash).getBoundingClientRect().top)";
        let current = browser.evaluate(current);
        assert!(current.as_array().unwrap().len() == 1 && current[0].as_f64().unwrap() < 844.0 / 3.0, "{width}: {current}");
    }
    // Bars stand in their rows: a background of the cell, level with the number.
    let bars = browser.evaluate("[...document.querySelectorAll('td.share')].map(td => getComputedStyle(td).backgroundPosition)");
    assert!(bars.as_array().unwrap().iter().all(|place| place.as_str().unwrap().split(", ").all(|at| at.ends_with(" 50%"))), "{bars}");
}

/// The pointer and the arrow keys move along a chart, and what is said of it is what was drawn.
#[test]
fn values_of_a_chart_are_said_by_pointer_and_by_keyboard() {
    let Some(mut browser) = Chromium::start(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let mut page = Page::new("t", "l");
    page.section("s");
    // On a logarithmic axis: the one falls by a factor of 300.
    let each: Vec<(f64, f64)> = (1..=300).map(|s| (s as f64, 6.0 / s as f64)).collect();
    let held_out = [(100.0, 0.51), (200.0, 0.0625), (300.0, 0.4)];
    let curve = |lines: &[Line], unit| curve_svg(&Curve { title: "loss", unit, lines, from_zero: unit == "%" });
    page.figures([
        ("first", curve(&[Line::new("training", &each), Line::new("held out", &held_out)], "nats")),
        ("second", curve(&[Line::new("tokens", &[(500_000.0, 12.5), (1_000_000.0, 98.7)])], "%")),
    ]);
    page.write(&file).unwrap();
    browser.resize(1280, 900, false);
    browser.open(&address(&file));
    let said =
        |browser: &mut Chromium, i: usize| browser.evaluate(&format!("document.querySelectorAll('.values')[{i}].innerText")).as_str().unwrap().to_string();
    let spoken = |browser: &mut Chromium| browser.evaluate("document.activeElement.getAttribute('aria-valuetext')").as_str().unwrap().to_string();
    assert!(said(&mut browser, 0).contains("← and →") && said(&mut browser, 1).trim().is_empty(), "the hint is said once");
    browser.press("Tab", 9);
    browser.press("Tab", 9);
    assert_eq!(browser.evaluate("[document.activeElement.tagName, document.activeElement.getAttribute('role')].join()"), "svg,slider");
    assert_eq!(spoken(&mut browser), "step 300: training 0.02000, held out 0.4000");
    for (key, code, expected) in [
        ("ArrowLeft", 37, "step 299: training 0.02007, held out 0.4000 at 300"),
        ("Home", 36, "step 1: training 6.000"),
        ("ArrowRight", 39, "step 2: training 3.000"),
        ("PageDown", 34, "step 1: training 6.000"),
        ("End", 35, "step 300: training 0.02000, held out 0.4000"),
    ] {
        browser.press(key, code);
        assert_eq!(spoken(&mut browser), expected, "{key}");
    }
    browser.press("Escape", 27);
    assert!(said(&mut browser, 0).contains("← and →"));
    browser.press("Tab", 9);
    assert_eq!(spoken(&mut browser), "step 1,000,000: tokens 98.7\u{a0}%");
    browser.press("ArrowLeft", 37);
    assert_eq!(spoken(&mut browser), "step 500,000: tokens 12.5\u{a0}%", "a pixel is not a step");
    // The pointer, over the middle of the first chart.
    let place = browser.evaluate(
        "(() => { const b = document.querySelector('svg[data-axes]').getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; })()",
    );
    browser.call("Input.dispatchMouseEvent", serde_json::json!({ "type": "mouseMoved", "x": place[0], "y": place[1] }));
    let words = said(&mut browser, 0);
    let step: f64 = words.split_whitespace().nth(1).unwrap().parse().unwrap();
    let value: f64 = words.split_whitespace().skip_while(|word| *word != "training").nth(1).unwrap().parse().unwrap();
    assert!(step > 50.0 && step < 200.0 && (value * step / 6.0 - 1.0).abs() < 1e-3, "{words}");
    assert_eq!(browser.evaluate("[...document.querySelectorAll('svg[data-axes] circle[visibility=visible]')].length >= 2"), true);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn a_table_is_sorted_by_the_heading_that_is_pressed() {
    let Some(mut browser) = Chromium::start(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    page().write(&file).unwrap();
    browser.open(&address(&file));
    let mut press = |heading: &str| {
        let click = format!("[...document.querySelectorAll('.sortable button')].find(b => b.textContent == '{heading}').click()");
        browser.evaluate(&click);
        let rows = browser.evaluate("[...document.querySelectorAll('.sortable tbody th')].map(th => th.textContent).join('')");
        let sorted = browser.evaluate("[...document.querySelectorAll('.sortable th[aria-sort]')].map(th => th.ariaSort).join()");
        (rows.as_str().unwrap().to_string(), sorted.as_str().unwrap().to_string())
    };
    let expected = |rows: &str, sorted: &str| (rows.to_string(), sorted.to_string());
    assert_eq!(press("ms"), expected("bac", "descending"));
    assert_eq!(press("ms"), expected("cab", "ascending"));
    assert_eq!(press("of it"), expected("bca", "descending"), "bytes and kibibytes by what they are worth, nothing last");
    assert_eq!(press("of it"), expected("cba", "ascending"));
    assert_eq!(press("of it"), expected("bac", ""));
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
    // Every section is in the contents, and every place that something points at is there.
    let headings: Vec<&str> = html.split("<h2 id=").skip(1).map(|after| after.split('>').next().unwrap()).collect();
    let links: Vec<&str> = html.split("<a href=#").skip(1).map(|after| after.split('>').next().unwrap()).collect();
    assert!(headings.len() >= 8 && links == headings, "{links:?} {headings:?}");
    assert_eq!(html.matches("<a ").count(), 1 + links.len(), "no link leads away");
    // Training and held-out loss are in one chart; its last and best values are in words.
    let chart = html.split("<figure>").find(|figure| figure.contains(">loss, nats per token<")).expect("a chart of the loss");
    assert_eq!(["training", "held out"].map(|name| chart.matches(&format!("data-name=\"{name}\"")).count()), [1, 1]);
    assert!(chart.contains(" the last time, at step 12"), "{chart}");
    // Chance once per table, and the same as the demo's.
    for table in html.split("<table").skip(1).map(|after| after.split("</table>").next().unwrap()).filter(|table| table.contains("<th scope=col>exact caption"))
    {
        assert_eq!(["chance", "most frequent answer"].map(|row| table.matches(&format!("<th scope=row>{row}</th>")).count()), [1, 1]);
        assert!(table.split("<th scope=row>chance</th>").nth(1).unwrap().contains("<td>16.7\u{a0}%</td>"), "{table}");
    }
    // A sample is called by its caption; its path is small beneath.
    assert!(html.contains("</h4>\n<p class=name>images/iid-000000.png</p>") && !html.contains("<h4>images/"));
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

/// Several runs on one page: of other lengths, settings and samples, from what they wrote down alone.
#[test]
fn runs_are_compared_on_one_page() {
    let folder = Folder::new();
    let train = |out: &str, more: &[&str]| {
        let (data, run) = (folder.path("data"), folder.path(out));
        good(&[&["train", &data, "--out", &run, "--device", "cpu", "--no-report", "--set", "eval_steps=4"], more].concat());
        run
    };
    let a = train("a", &["--steps", "12", "--set", "eval_split=iid"]);
    let b = train("b", &["--steps", "8", "--set", "eval_split=iid", "--set", "learning_rate=0.001", "--set", "best_by=exact"]);
    let c = train("c", &["--steps", "4", "--set", "eval_split=held_out_both", "--set", "precision=f32"]);
    // Neither data nor models are needed.
    std::fs::remove_dir_all(folder.path("data")).unwrap();
    for run in [&a, &b, &c] {
        let latest = std::fs::read_to_string(format!("{run}/latest")).unwrap();
        std::fs::remove_file(format!("{run}/{}/model.safetensors", latest.trim())).unwrap();
    }
    let page = folder.path("compare.html");
    let (said, complaints) = good(&["report", &a, &b, "--out", &page]);
    assert!(said.contains(&format!("report: {page} (")) && complaints.is_empty(), "{said} {complaints}");
    let html = std::fs::read_to_string(&page).unwrap();
    runs_only_its_script(&html);
    let words = text(&html);
    for expected in
        ["2 runs of 8 to 12 steps: a and b.", "Evaluated on the same samples: A and B on 12 samples of iid.", "reached the lowest loss on held-out samples"]
    {
        assert!(words.contains(expected), "{expected:?} is not in {words}");
    }
    let settings = html.split("Settings that differ</h2>").nth(1).unwrap().split("</table>").next().unwrap();
    let differing: Vec<&str> = settings.split("<th scope=row>").skip(1).map(|after| after.split('<').next().unwrap()).collect();
    assert_eq!(differing, ["training.steps", "training.learning_rate", "evaluation.best_by"]);
    // A line for each run in each chart, called the same and of the same colour everywhere; in the tables, too.
    let charts: Vec<&str> = html.split("<figure>").skip(1).map(|after| after.split("</figure>").next().unwrap()).collect();
    let held_out = charts.iter().find(|chart| chart.contains(">held-out loss, nats per token<")).unwrap();
    for chart in &charts {
        for (key, pen) in [("A", "stroke=\"#185a9d\""), ("B", "stroke=\"#b03a10\"")] {
            let line = chart.split("<polyline ").find(|line| line.starts_with(&format!("data-name=\"{key}\"")));
            assert!(line.is_none_or(|line| line.contains(pen)), "{chart}");
        }
    }
    assert!(charts.len() >= 5 && held_out.contains("data-name=\"A\"") && held_out.contains("data-name=\"B\""), "{held_out}");
    assert!(html.matches("</svg>A · a</th>").count() >= 4);

    // Other samples: said on the page and by the program, and no run is called the best.
    let (_, complaints) = good(&["report", &a, &b, &c, "--out", &page]);
    assert!(
        complaints.contains("Not all were evaluated on the same samples: A and B on 12 samples of iid and C on 12 samples of held_out_both"),
        "{complaints}"
    );
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("Scores on different samples cannot be compared") && !html.contains("reached the lowest loss"));
    if let Some(mut browser) = Chromium::start(&[]) {
        is_readable(&mut browser, &address(Path::new(&page)), "compare", |_| ());
    }

    // A log and settings alone are a run, which has not been saved yet.
    let new = folder.path("new");
    std::fs::create_dir_all(&new).unwrap();
    for name in ["log.jsonl", "config.toml"] {
        std::fs::copy(format!("{a}/{name}"), format!("{new}/{name}")).unwrap();
    }
    let (_, complaints) = good(&["report", &a, &new, "--out", &page]);
    assert!(complaints.contains("What B was evaluated on is not known"), "{complaints}");

    // What is not a run, and what makes no sense: nothing is written.
    std::fs::remove_file(&page).unwrap();
    let checkpoint = format!("{a}/{}", std::fs::read_to_string(format!("{a}/latest")).unwrap().trim());
    for (arguments, code, expected) in [
        (vec![a.as_str(), &folder.path("nowhere")], 1, "there is no such folder"),
        (vec![&a, &checkpoint], 1, "a part of a run, not the run"),
        (vec![&a, &b, "--samples", "3"], 2, "--samples is for the page of one run"),
        (vec![&a, &b, "--device", "cpu"], 2, "--device is for the page of one run"),
        (vec![a.as_str(); 13], 2, "expected at most 12 runs on one page, found 13"),
    ] {
        let output = trimodal(&[&["report"][..], &arguments, &["--out", &page]].concat());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && message.contains(expected) && !Path::new(&page).exists(), "{arguments:?}: {message}");
    }
    let output = trimodal(&["report", &a, &b]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && message.contains("--out compare.html"), "{message}");
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
        assert_eq!(html.matches(&format!("<h3>epoch {epoch}</h3>")).count(), 6);
    }
    assert!(!html.contains("<h3>epoch 3</h3>"));
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
