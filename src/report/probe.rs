//! A probe as a drawing: the nearest words laid over patches and frames, level by level, and lines for cosines and the axis.

use crate::interpret::probe::{Axis, Near, Probe, Said, Seen};
use crate::markup::plot::{Axis as Scale, Plot, spread};
use crate::markup::svg::{GRID, Pen, SERIES, Svg, Words};
use crate::numbers::percent;

/// The most levels that are drawn.
const MAX_LEVELS: usize = 6;
const MARGIN: f64 = 24.0;
/// A cell that has room for a word.
const CELL: [f64; 2] = [62.0, 26.0];
/// Between two grids, and above each for its heading.
const GAP: f64 = 22.0;
/// A chart's lines, without its names.
const CHART: [f64; 2] = [420.0, 200.0];
const FONT: f64 = 12.0;

/// The first and the last level, and those between them at even distances, `most` in all.
pub fn some_levels(levels: usize, most: usize) -> Vec<usize> {
    if levels <= most {
        return (0..levels).collect();
    }
    (0..most).map(|i| (i * (levels - 1) + (most - 1) / 2) / (most - 1)).collect()
}

/// What the model says of something, and which end of the axis it names.
pub fn in_its_own_words(said: &Said, axis: &Axis) -> String {
    let place = if said.after.is_empty() { "At its beginning".into() } else { format!("After “{}”", said.after) };
    let ends = [(&axis.positive, said.positive), (&axis.negative, said.negative)].map(|(words, share)| format!("{} {}", words.join(", "), percent(share)));
    format!("Of the {} the model says “{}”. {place}: {}.", said.of, said.text, ends.join("; "))
}

/// The drawing. Words are written out; shade says how sure the lens is of them.
pub fn probe_svg(probe: &Probe) -> String {
    let levels = some_levels(probe.levels, MAX_LEVELS);
    let mut drawing = Drawing { svg: Svg::default(), width: 0.0, y: MARGIN };
    for (what, seen) in [("picture", &probe.picture), ("sound", &probe.sound), ("word", &probe.word)] {
        if let Some(seen) = seen {
            drawing.grids(what, seen, &levels);
        }
    }
    let mut charts = Vec::new();
    if !probe.cosines.is_empty() {
        let plain = |of: &str, and: &str| format!("{of} and {and}");
        let lines = probe.cosines.iter().flat_map(|c| [(plain(c.of, c.and), &c.cosine, false), (plain(c.of, c.and) + ", centred", &c.centred, true)]);
        charts.push(("Cosine at each level".to_string(), lines.collect::<Vec<_>>()));
    }
    if let Some(found) = &probe.axis {
        let title = format!("From {} (−1) to {} (+1), at each level", found.axis.negative.join(", "), found.axis.positive.join(", "));
        let ends = found.axis.positive.len() + found.axis.negative.len();
        let asked = found.positions.len() - ends;
        charts.push((title, found.positions.iter().enumerate().map(|(i, p)| (p.of.clone(), &p.at, i >= asked)).collect()));
    }
    for (title, lines) in charts {
        drawing.chart(&title, &lines);
    }
    if let Some(positions) = &probe.axis {
        for said in &positions.said {
            drawing.svg.text((MARGIN, drawing.y), &in_its_own_words(said, &positions.axis), Words::START);
            drawing.y += GAP;
        }
    }
    drawing.svg.file((drawing.width + MARGIN, drawing.y), FONT, "nearest words, cosines and positions, level by level")
}

struct Drawing {
    svg: Svg,
    /// To the right end of what is drawn.
    width: f64,
    /// Where the next thing begins.
    y: f64,
}

impl Drawing {
    fn heading(&mut self, text: &str) {
        self.y += 16.0;
        self.svg.text((MARGIN, self.y), text, Words::START.size(16.0).bold());
        self.y += 8.0;
    }

    /// The grid of a thing's rows once for each level, side by side.
    fn grids(&mut self, what: &str, seen: &Seen, levels: &[usize]) {
        self.heading(&format!("The {what} ({}): the nearest word of each row, by the logit lens", seen.name));
        let (columns, lines) = (seen.columns, seen.rows.len().div_ceil(seen.columns));
        let top = self.y + GAP;
        for (i, &level) in levels.iter().enumerate() {
            let left = MARGIN + i as f64 * (columns as f64 * CELL[0] + GAP);
            self.svg.text((left, top - 6.0), &format!("level {level}"), Words::START);
            for (row, near) in seen.rows.iter().enumerate() {
                let (x, y) = (left + (row % columns) as f64 * CELL[0], top + (row / columns) as f64 * CELL[1]);
                self.cell(x, y, &row_name(&seen.places[row]), &near[level][0]);
            }
            self.width = self.width.max(left + columns as f64 * CELL[0]);
        }
        self.y = top + lines as f64 * CELL[1] + GAP;
    }

    fn cell(&mut self, x: f64, y: f64, place: &str, near: &Near) {
        // The surest ground still carries dark text.
        let share = near.probability.clamp(0.0, 1.0);
        let mix = |c: f64| (255.0 + (c - 255.0) * share) as u8;
        let ground = format!("#{:02x}{:02x}{:02x}", mix(150.0), mix(200.0), mix(235.0));
        let [width, height] = CELL;
        let short: String = if near.word.chars().count() > 9 { near.word.chars().take(8).chain(['…']).collect() } else { near.word.clone() };
        self.svg.group(&format!("{place}{}: {}", near.word, percent(near.probability)), |svg| {
            svg.rect((x, y, width, height), Pen::fill(&ground).around(GRID, 1.0));
            svg.text((x + width / 2.0, y + height / 2.0 + 4.0), &short, Words::MIDDLE.size(11.0));
        });
    }

    /// Lines over the levels; the dashed ones are less prominent.
    fn chart(&mut self, title: &str, lines: &[(String, &Vec<f64>, bool)]) {
        self.heading(title);
        let values = || lines.iter().flat_map(|l| l.1.iter().copied()).filter(|v| v.is_finite());
        let (low, high) = (values().fold(-1.0, f64::min), values().fold(1.0, f64::max));
        let levels = lines.iter().map(|l| l.1.len()).max().unwrap_or(0);
        let ([width, height], left, top) = (CHART, MARGIN + 40.0, self.y + 12.0);
        let across = Scale { from: 0.0, to: levels.saturating_sub(1).max(1) as f64, logarithmic: false, name: "", labels: 0, label: &|_| String::new() };
        let up = Scale { from: low, to: high, logarithmic: false, name: "", labels: 5, label: &|value| minus(&format!("{value:.1}")) };
        let plot = Plot::new(&mut self.svg, (left, top, width, height), across, up, FONT);
        for level in some_levels(levels, MAX_LEVELS) {
            self.svg.text((plot.at((level as f64, low)).0, top + height + 18.0), &level.to_string(), Words::MIDDLE);
        }
        let ends: Vec<f64> = lines.iter().map(|l| l.1.last().copied().filter(|v| v.is_finite()).unwrap_or(0.0)).collect();
        let heights: Vec<f64> = ends.iter().map(|end| plot.at((0.0, *end)).1).collect();
        // Names at the right end; more of them than there is room for go on below.
        let lowest = (top + height).max(top + 16.0 * lines.len() as f64);
        for (i, ((name, values, dashed), y)) in lines.iter().zip(spread(&heights, 16.0, lowest)).enumerate() {
            let colour = SERIES[i % SERIES.len()];
            let pen = if *dashed { Pen::line(colour, 2.0).dashed() } else { Pen::line(colour, 2.0) };
            plot.line(&mut self.svg, values.iter().enumerate().filter(|v| v.1.is_finite()).map(|(level, v)| (level as f64, *v)), pen);
            self.svg.text((left + width + 10.0, y + 4.0), &minus(&format!("{name} {:.2}", ends[i])), Words::START.colour(colour));
        }
        self.width = self.width.max(left + width + 230.0);
        self.y = (top + height + 30.0).max(lowest + 16.0) + GAP;
    }
}

/// With the sign that is as wide as a plus.
fn minus(text: &str) -> String {
    text.replace('-', "−")
}

/// The beginning of a cell's note.
fn row_name(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!("{place}: ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpret::probe::{Axis, Cosine, Position, Positions, VECTORS};

    #[test]
    fn levels_are_chosen_evenly_with_both_ends() {
        assert_eq!(some_levels(4, 6), [0, 1, 2, 3]);
        assert_eq!(some_levels(29, 8), [0, 4, 8, 12, 16, 20, 24, 28]);
        for levels in 7..60 {
            let some = some_levels(levels, 6);
            assert!(some.len() == 6 && some[0] == 0 && some[5] == levels - 1 && some.windows(2).all(|w| w[0] < w[1]), "{some:?}");
        }
    }

    #[test]
    fn a_drawing_holds_everything_as_text() {
        let near = |word: &str| vec![Near { word: word.into(), id: 1, probability: 0.5 }];
        let row = vec![near("cat"), near("<eoi>")];
        let seen = Seen { name: "a<b\u{1}.png".into(), columns: 2, places: vec!["1,1".into(), "1,2".into()], rows: vec![row.clone(), row] };
        let axis = Axis { positive: vec!["cat".into()], negative: vec!["owl".into()] };
        let at = |of: &str, at: &[f64]| Position { of: of.into(), at: at.into() };
        let positions = vec![at("picture", &[0.2, 3.0]), at("cat", &[1.0, 1.0]), at("owl", &[-1.0, f64::NAN])];
        let said = vec![Said { of: "picture", text: "a cat".into(), after: "a".into(), positive: 0.75, negative: 0.2 }];
        let probe = Probe {
            vectors: VECTORS,
            levels: 2,
            picture: Some(seen),
            sound: None,
            word: None,
            cosines: vec![Cosine { of: "picture", and: "word", cosine: vec![0.1, 0.2], centred: vec![0.0, -0.5] }],
            axis: Some(Positions { axis, positions, said }),
        };
        let svg = probe_svg(&probe);
        for part in [
            "a&lt;b\u{fffd}.png",
            ">cat<",
            "&lt;eoi&gt;",
            "picture and word, centred −0.50",
            "From owl (−1) to cat (+1)",
            "picture 3.00",
            "After “a”: cat 75.0 %; owl 20.0 %.",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
