//! The report's page, in a browser: nothing is fetched, nothing complains, pictures are there, text can be read.

mod chromium;

use chromium::Chromium;
use trimodal::report::page::{Card, Curve, Heat, Line, Page, curve_svg, overlay, picture_png, spectrogram_png};

/// A page with one of everything.
fn page() -> Page {
    let mut page = Page::new("What a small model learned", "221,600 parameters, trained on pictures, sounds and words that the program drew.");
    page.section("What was trained");
    page.facts([("data", "16,000 samples".to_string()), ("device", "cpu, with a rather long name that has to wrap on a phone somewhere".into())]);
    page.commands("trimodal demo --seed 0\ntrimodal describe trimodal-demo/model --image trimodal-demo/headline.png --audio trimodal-demo/headline.wav");
    page.section("Curves");
    let loss: Vec<(f64, f64)> = (1..=3000).map(|s| (s as f64, 5.0 / (s as f64).sqrt())).collect();
    let rate: Vec<(f64, f64)> = (1..=3000).map(|s| (s as f64, 4e-3 * (1.0 - s as f64 / 3000.0))).collect();
    let curve = |title, unit, points| curve_svg(&Curve { title, unit, lines: &[Line { name: title, points }] }).unwrap();
    page.figures([("The loss of each step.", curve("loss", "nats", &loss)), ("The learning rate.", curve("learning rate", "", &rate))]);
    page.section("Held-out samples");
    let header = ["split", "samples", "exact", "species", "colour", "texture", "pose", "place", "action"];
    let row = |name: &str| std::iter::once(name.to_string()).chain(["500"; 1].map(String::from)).chain(["98.0 %"; 7].map(String::from)).collect::<Vec<_>>();
    page.table("Shares of captions that are right", &header, &[row("iid"), row("held_out_both"), row("chance")]);
    page.confusion("Species: true (rows) and said (columns)", &["cat", "dog", "bird"], &[vec![48, 2, 0], vec![1, 49, 0], vec![0, 20, 30]]);
    page.section("Samples");
    let rgb: Vec<u8> = (0..48 * 48).flat_map(|i| [(i % 48) as u8 * 5, (i / 48) as u8 * 5, 120]).collect();
    let mel: Vec<f32> = (0..50 * 40).map(|i| ((i % 40) as f32 * 0.2).sin() * (i / 40) as f32).collect();
    let weights: Vec<f32> = (0..36).map(|i| if i == 14 { 1.0 } else { 0.05 }).collect();
    let heat = || Heat { word: "cat", picture: picture_png(&overlay(&rgb, 48, 48, &weights, 6).unwrap(), 48, 48).ok(), spectrogram: None };
    let card = |said, truth| Card {
        name: "images/000012.png",
        picture: picture_png(&rgb, 48, 48).ok(),
        spectrogram: spectrogram_png(&mel, 40).ok(),
        wav: Some(b"RIFF".to_vec()),
        said,
        truth: Some(truth),
        heats: vec![heat(), heat(), heat()],
    };
    page.gallery(&[
        card("a fluffy orange cat laying on its back in the sun yawning", "a fluffy orange cat laying on its back in the sun yawning"),
        card("a striped grey dog", "a striped grey cat"),
        card("a spotted brown frog sitting in the rain", "a spotted brown frog sitting in the rain"),
    ]);
    page
}

/// Contrast of every piece of text with what is behind it (WCAG 2.2): the worst one, and its text.
const CONTRAST: &str = r#"(() => {
  const rgb = s => (s.match(/[\d.]+/g) || []).map(Number);
  const light = c => { const f = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126*f(c[0]) + 0.7152*f(c[1]) + 0.0722*f(c[2]); };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length == 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  let worst = [99, ''];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.getClientRects().length) continue;
    const svg = e.closest('svg');
    const ink = rgb(svg ? getComputedStyle(e).fill : getComputedStyle(e).color);
    const [a, b] = [light(ink), light(svg ? [255, 255, 255] : ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, walk.currentNode.data.trim()];
  }
  return worst;
})()"#;

#[test]
fn the_page_is_readable_on_a_phone_and_on_a_desk() {
    let Some(mut browser) = Chromium::start(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    page().write(&file).unwrap();
    // `TRIMODAL_SCREENSHOTS=DIR` keeps what a person should look at.
    let shots = std::env::var_os("TRIMODAL_SCREENSHOTS").map_or(folder.path().to_path_buf(), Into::into);
    for (width, mobile) in [(390, true), (1280, false)] {
        browser.resize(width, 844, mobile);
        browser.open(&format!("file://{}", file.display()));
        let broken = browser.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).length");
        assert_eq!(broken, 0, "pictures that are not there, or not described");
        assert_eq!(browser.evaluate("document.documentElement.scrollWidth"), width, "the page itself must not scroll sideways");
        let worst = browser.evaluate(CONTRAST);
        assert!(worst[0].as_f64().unwrap() >= 4.5, "contrast: {worst}");
        let headings = browser.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName).join(' ')");
        assert_eq!(headings, "H1 H2 H2 H2 H2");
        let unnamed = browser.evaluate(
            "[...document.querySelectorAll('svg,audio,[role=region],section,nav')].filter(e => !(e.ariaLabel || e.getAttribute('aria-labelledby'))).length",
        );
        assert_eq!(unnamed, 0);
        // By keyboard: everything that can be focused comes in the order in which it is read, and nothing jumps ahead.
        assert_eq!(browser.evaluate("document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length"), 0);
        browser.screenshot(&shots.join(format!("report-{width}.png")));
    }
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
