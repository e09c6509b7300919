//! What a page must be so that everybody can read it: contrast, width, order, names, focus.

use crate::chromium::Chromium;
use std::path::PathBuf;

/// Contrast of every piece of text with what is behind it (WCAG 2.2, 1.4.3): the worst one, and its text.
const CONTRAST: &str = r#"(() => {
  const rgba = s => { const c = (s.match(/[\d.]+/g) || []).map(Number); return c.length == 3 ? [...c, 1] : c; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = c => { const f = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126*f(c[0]) + 0.7152*f(c[1]) + 0.0722*f(c[2]); };
  const ground = e => {
    const layers = [];
    for (; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, c) => c.length == 4 ? over(c, below) : below, [255, 255, 255, 1]);
  };
  let worst = [99, ''];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), behind = ground(e);
    const ink = over(rgba(e.closest('svg') ? style.fill : style.color), behind);
    const [a, b] = [light(ink), light(behind)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, walk.currentNode.data.trim()];
  }
  return worst;
})()"#;

/// The place in the document of what has the focus, and whether it can be seen.
const FOCUSED: &str = r#"(() => {
  const e = document.activeElement, box = e.getBoundingClientRect();
  return [[...document.querySelectorAll('*')].indexOf(e), e.tagName, box.width > 0 && box.right > 0 && getComputedStyle(e).outlineStyle != 'none'];
})()"#;

/// What every page of ours must be, at the widths of a phone and of a desk, in light and in dark. `ready` waits until it is complete.
pub fn is_readable(browser: &mut Chromium, url: &str, name: &str, mut ready: impl FnMut(&mut Chromium)) {
    // `TRIMODAL_SCREENSHOTS=DIR` keeps what a person should look at.
    let shots = std::env::var_os("TRIMODAL_SCREENSHOTS").map(PathBuf::from);
    for (width, mobile) in [(390, true), (1280, false)] {
        browser.resize(width, 844, mobile);
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            browser.open(url);
            ready(browser);
            let broken = browser.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).length");
            assert_eq!(broken, 0, "pictures that are not there, or not described");
            assert_eq!(browser.evaluate("document.documentElement.scrollWidth"), width, "the page itself must not scroll sideways");
            let worst = browser.evaluate(CONTRAST);
            assert!(worst[0].as_f64().unwrap() >= 4.5, "{name} at {width}, {scheme}: contrast {worst}");
            let sounds = browser.evaluate(
                "Promise.all([...document.querySelectorAll('audio')].map(a => new Promise(f => { \
                 const t = setInterval(() => { if (a.readyState > 0 || a.error) { clearInterval(t); f(a.duration > 0); } }, 20); }))).then(all => all.every(x => x))",
            );
            assert_eq!(sounds, true, "sounds that cannot be played");
            if let Some(shots) = &shots {
                browser.screenshot(&shots.join(format!("{name}-{width}-{scheme}.png")));
            }
        }
    }
    let spoken = browser.spoken();
    let of = |role: &str| spoken.iter().filter(|node| node.0 == role).collect::<Vec<_>>();
    for landmark in ["banner", "main", "contentinfo"] {
        assert_eq!(of(landmark).len(), 1, "one {landmark}: {spoken:?}");
    }
    // What has one section needs no table of contents.
    let sections = browser.evaluate("document.querySelectorAll('section').length").as_u64().unwrap();
    assert_eq!(of("navigation").len(), (sections > 1) as usize, "{sections} sections: {spoken:?}");
    let levels: Vec<u64> = of("heading").iter().map(|node| node.2).collect();
    assert!(levels[0] == 1 && levels.windows(2).all(|l| l[1] <= l[0] + 1 && l[1] > 1), "headings skip no level: {levels:?}");
    for role in ["image", "img", "slider", "region", "link", "Audio", "table", "DisclosureTriangle", "heading"] {
        assert!(of(role).iter().all(|node| !node.1.trim().is_empty()), "a {role} without a name");
    }
    assert!(of("image").len() + of("img").len() + of("slider").len() > 0 && !of("heading").is_empty());
    // By keyboard: the first thing leads past the contents; then everything comes in the order of reading, and shows that it has the focus.
    let (mut last, mut stops) = (-1, 0);
    loop {
        browser.press("Tab", 9);
        let focused = browser.evaluate(FOCUSED);
        let (place, tag) = (focused[0].as_i64().unwrap(), focused[1].as_str().unwrap());
        if tag == "BODY" || tag == "HTML" || place < last {
            break;
        }
        assert!(focused[2] == true, "{tag} does not show that it has the focus");
        stops += (place > last) as usize;
        last = place;
        assert!(stops < 2000, "the focus is caught");
    }
    assert!(stops >= 5, "{stops} things can be reached by keyboard");
    browser.evaluate("document.querySelector('.skip').focus()");
    browser.press("Enter", 13);
    assert_eq!(browser.evaluate("document.activeElement.id"), "main");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
