//! Bars of means in groups, a dot on them for each seed, a dashed line for chance.

use crate::markup::plot::{Axis, Plot};
use crate::markup::svg::{INK, Pen, Svg, Words};

/// One colour per series; they differ in lightness as well.
const COLOURS: [&str; 4] = ["#185a9d", "#969696", "#d6781e", "#78b4dc"];

const SIZE: (f64, f64) = (960.0, 520.0);
const FONT: f64 = 15.0;
/// What a letter takes, about.
const LETTER: f64 = 8.0;

/// What to draw.
pub(super) struct Bars {
    /// Above the plot.
    pub title: String,
    /// Beside the axis of shares.
    pub y: String,
    /// Under each group.
    pub groups: Vec<String>,
    /// Each series' name, and its seeds' values in each group.
    pub series: Vec<(String, Vec<Vec<f64>>)>,
    /// What guessing gets.
    pub chance: f64,
}

/// The plot as an SVG.
pub(super) fn bars(bars: &Bars) -> String {
    let mut svg = Svg::default();
    svg.text((SIZE.0 / 2.0, 30.0), &bars.title, Words::MIDDLE.size(20.0));
    // What the colours and the dashes mean, in a line.
    let mut x = 76.0;
    for (name, colour) in bars.series.iter().map(|series| series.0.as_str()).zip(COLOURS.into_iter().cycle()).chain([("chance", "")]) {
        match colour {
            "" => svg.line([(x, 55.0), (x + 22.0, 55.0)], Pen::line(INK, 1.0).dashed()),
            _ => svg.rect((x + 4.0, 48.0, 14.0, 14.0), Pen::fill(colour)),
        }
        svg.text((x + 26.0, 60.0), name, Words::START);
        x += 50.0 + LETTER * name.chars().count() as f64;
    }
    let groups = bars.groups.len().max(1);
    let place = (76.0, 80.0, 864.0, 400.0);
    let across = Axis { from: 0.0, to: groups as f64, logarithmic: false, name: "", labels: 0, label: &|_| String::new() };
    let shares = Axis { from: 0.0, to: 1.0, logarithmic: false, name: &bars.y, labels: 5, label: &|share| format!("{:.0} %", 100.0 * share) };
    let plot = Plot::new(&mut svg, place, across, shares, FONT);
    for (group, name) in bars.groups.iter().enumerate() {
        svg.text((plot.at((group as f64 + 0.5, 0.0)).0, 500.0), name, Words::MIDDLE);
    }
    let width = 0.8 / bars.series.len().max(1) as f64;
    for (s, ((_, values), colour)) in bars.series.iter().zip(COLOURS.into_iter().cycle()).enumerate() {
        for (group, values) in values.iter().enumerate().filter(|(_, values)| !values.is_empty()) {
            let left = group as f64 + 0.1 + s as f64 * width;
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let ((x, y), (right, bottom)) = (plot.at((left + 0.06 * width, mean)), plot.at((left + 0.94 * width, 0.0)));
            svg.rect((x, y, right - x, bottom - y), Pen::fill(colour));
            let step = width / (values.len() as f64 + 1.0);
            for (i, value) in values.iter().enumerate() {
                svg.circle(plot.at((left + step * (i as f64 + 1.0), *value)), 4.0, Pen::line(INK, 1.0));
            }
        }
    }
    plot.line(&mut svg, [(0.0, bars.chance), (groups as f64, bars.chance)], Pen::line(INK, 1.0).dashed());
    svg.file(SIZE, FONT, &format!("{}: {}", bars.title, bars.y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_series_and_seeds_are_drawn() {
        let values = |v: f64| vec![vec![v, v + 0.1], vec![v / 2.0], vec![]];
        let drawn = Bars {
            title: "What & why".into(),
            y: "right".into(),
            groups: ["iid", "new", "none"].map(String::from).into(),
            series: vec![("one".into(), values(0.5)), ("two".into(), values(0.8))],
            chance: 0.25,
        };
        let svg = bars(&drawn);
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
        assert_eq!(svg.matches("<circle").count(), 6);
        for text in ["iid", "new", "none", "one", "two", "chance", "right", "What &amp; why"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
