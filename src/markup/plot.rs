//! A plot: two axes with their grid and labels, and where a pair of values lies between them.

use super::svg::{GRID, INK, Pen, Place, Point, Svg, Words};

/// From where to where values go, and how they are written.
pub(crate) struct Axis<'a> {
    /// The smallest value.
    pub from: f64,
    /// The largest, which is larger.
    pub to: f64,
    /// Whether equal lengths are equal factors; both ends are then above zero.
    pub logarithmic: bool,
    /// What is measured; empty where that is said elsewhere.
    pub name: &'a str,
    /// How many labels there is room for; 0 for an axis without a grid.
    pub labels: usize,
    /// A label.
    pub label: &'a dyn Fn(f64) -> String,
}

impl Axis<'_> {
    /// How far a value is from the beginning, as a share of the axis.
    pub fn share(&self, value: f64) -> f64 {
        if self.logarithmic { (value / self.from).ln() / (self.to / self.from).ln() } else { (value - self.from) / (self.to - self.from) }
    }

    /// Round values, at most as many as there is room for.
    fn ticks(&self) -> Vec<f64> {
        if self.labels == 0 {
            return Vec::new();
        }
        if self.logarithmic {
            return self.powers();
        }
        let least = (self.to - self.from) / self.labels as f64;
        let power = 10f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least * 0.999).unwrap_or(10.0 * power);
        let (first, last) = ((self.from / step - 1e-6).ceil(), (self.to / step + 1e-6).floor());
        (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step).collect()
    }

    /// Powers of ten; where these are few, their doubles and fives as well; where they are many, some of them.
    fn powers(&self) -> Vec<f64> {
        let inside = |value: &f64| (self.from * 0.9999..=self.to * 1.0001).contains(value);
        let exponents = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
        let of = |factors: &[f64]| -> Vec<f64> {
            exponents.clone().flat_map(|exponent| factors.iter().map(move |factor| factor * 10f64.powi(exponent))).filter(inside).collect()
        };
        let found = [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]].map(of).into_iter().find(|ticks| ticks.len() <= self.labels);
        found.unwrap_or_else(|| {
            let all = of(&[1.0]);
            let every = all.len().div_ceil(self.labels);
            all.into_iter().step_by(every).collect()
        })
    }
}

/// The axes around a box of a drawing.
pub(crate) struct Plot<'a> {
    place: Place,
    x: Axis<'a>,
    y: Axis<'a>,
}

impl<'a> Plot<'a> {
    /// Draws the grid, the axes, their labels in letters of this size and their names. There must be room for these: to the left, and
    /// three lines below.
    pub fn new(svg: &mut Svg, place: Place, x: Axis<'a>, y: Axis<'a>, font: f64) -> Self {
        let (left, top, width, height) = place;
        let (right, bottom) = (left + width, top + height);
        let plot = Plot { place, x, y };
        for tick in plot.x.ticks() {
            let at = plot.at((tick, plot.y.from)).0;
            svg.line([(at, top), (at, bottom)], Pen::line(GRID, 1.0));
            svg.text((at, bottom + 1.3 * font), &(plot.x.label)(tick), Words::MIDDLE.size(font));
        }
        for tick in plot.y.ticks() {
            let at = plot.at((plot.x.from, tick)).1;
            svg.line([(left, at), (right, at)], Pen::line(GRID, 1.0));
            svg.text((left - 0.5 * font, at + 0.35 * font), &(plot.y.label)(tick), Words::END.size(font));
        }
        svg.line([(left, top), (left, bottom), (right, bottom)], Pen::line(INK, 1.0));
        if !plot.x.name.is_empty() {
            svg.text((left + width / 2.0, bottom + 2.7 * font), plot.x.name, Words::MIDDLE.size(font));
        }
        if !plot.y.name.is_empty() {
            svg.text((left - 4.0 * font, top + height / 2.0), plot.y.name, Words::MIDDLE.size(font).upward());
        }
        plot
    }

    /// The place of a pair of values.
    pub fn at(&self, (x, y): Point) -> Point {
        let (left, top, width, height) = self.place;
        (left + width * self.x.share(x), top + height * (1.0 - self.y.share(y)))
    }

    /// The axes for a page's script, as JSON: from where to where each goes in values and in pixels, whether the values are logarithmic, and the
    /// names of what is measured.
    pub fn axes(&self, unit: &str) -> String {
        let (left, top, width, height) = self.place;
        let Plot { x, y, .. } = self;
        let axis = |axis: &Axis, pixels: [f64; 2]| serde_json::json!({ "values": [axis.from, axis.to], "pixels": pixels, "logarithmic": axis.logarithmic });
        serde_json::json!({ "x": axis(x, [left, left + width]), "y": axis(y, [top + height, top]), "name": x.name, "unit": unit }).to_string()
    }

    /// A line through pairs of values, with the name that a page's script shows.
    pub fn named_line(&self, svg: &mut Svg, name: &str, points: impl IntoIterator<Item = Point>, pen: Pen) {
        svg.named_line(name, points.into_iter().map(|point| self.at(point)), pen);
    }

    /// A line through pairs of values.
    pub fn line(&self, svg: &mut Svg, points: impl IntoIterator<Item = Point>, pen: Pen) {
        svg.line(points.into_iter().map(|point| self.at(point)), pen);
    }
}

/// Heights of names at these heights that do not overlap: each as near to its own as `apart` pixels between them and the lowest allow.
pub(crate) fn spread(heights: &[f64], apart: f64, lowest: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by(|&a, &b| heights[a].total_cmp(&heights[b]));
    let mut spread = heights.to_vec();
    // Down first, then up from the lowest.
    for pair in order.windows(2) {
        spread[pair[1]] = spread[pair[1]].max(spread[pair[0]] + apart);
    }
    let mut lowest = lowest;
    for &i in order.iter().rev() {
        spread[i] = spread[i].min(lowest);
        lowest = spread[i] - apart;
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(from: f64, to: f64, logarithmic: bool, labels: usize) -> Vec<f64> {
        Axis { from, to, logarithmic, name: "", labels, label: &|_| String::new() }.ticks().iter().map(|tick| (tick * 1e9).round() / 1e9).collect()
    }

    #[test]
    fn ticks_are_round_and_not_too_many() {
        assert_eq!(ticks(0.0, 6.2, false, 6), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(ticks(0.0, 1.0, false, 5), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(1.0, 3000.0, false, 5), [1000.0, 2000.0, 3000.0]);
        assert_eq!(ticks(-1.0, 1.0, false, 4), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.09, 6.0, true, 6), [0.1, 0.2, 0.5, 1.0, 2.0, 5.0]);
        assert_eq!(ticks(1.0, 1e4, true, 6), [1.0, 10.0, 100.0, 1e3, 1e4]);
        assert_eq!(ticks(1.0, 1e30, true, 4).len(), 4);
        assert!(ticks(0.0, 1.0, false, 0).is_empty());
    }

    #[test]
    fn values_have_their_places() {
        let axis = |from, to, logarithmic| Axis { from, to, logarithmic, name: "", labels: 3, label: &|_| String::new() };
        let plot = Plot::new(&mut Svg::default(), (10.0, 20.0, 100.0, 200.0), axis(0.0, 10.0, false), axis(1.0, 100.0, true), 10.0);
        assert_eq!([(0.0, 1.0), (10.0, 100.0), (5.0, 10.0)].map(|pair| plot.at(pair)), [(10.0, 220.0), (110.0, 20.0), (60.0, 120.0)]);
        let axes: serde_json::Value = serde_json::from_str(&plot.axes("nats")).unwrap();
        assert_eq!(axes["x"], serde_json::json!({ "values": [0.0, 10.0], "pixels": [10.0, 110.0], "logarithmic": false }));
        assert_eq!(axes["y"], serde_json::json!({ "values": [1.0, 100.0], "pixels": [220.0, 20.0], "logarithmic": true }));
    }

    #[test]
    fn names_move_apart() {
        assert_eq!(spread(&[50.0, 10.0, 52.0], 15.0, 100.0), [50.0, 10.0, 65.0]);
        assert_eq!(spread(&[99.0, 98.0], 15.0, 100.0), [100.0, 85.0]);
        assert!(spread(&[], 15.0, 100.0).is_empty());
    }
}
