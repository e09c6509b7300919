//! Bars of means in groups, a dot on them for each seed, a dashed line for chance.

use crate::error::{Error, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One colour per series; they differ in lightness as well.
const COLOURS: [RGBColor; 4] = [RGBColor(24, 90, 157), RGBColor(150, 150, 150), RGBColor(214, 120, 30), RGBColor(120, 180, 220)];

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
///
/// # Errors
/// [`Error::Usage`] where the backend fails.
pub(super) fn bars(bars: &Bars) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, bars).map_err(|e| Error::Usage(format!("the plot cannot be drawn: {e}")))?;
    Ok(svg)
}

fn draw(svg: &mut String, bars: &Bars) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (960, 520)).into_drawing_area();
    root.fill(&WHITE)?;
    let groups = bars.groups.len().max(1);
    let mut chart = ChartBuilder::on(&root)
        .caption(&bars.title, ("sans-serif", 22))
        .margin(16)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..groups as f64, -0.08..1.45)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .max_light_lines(0)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 16))
        .y_labels(6)
        .y_label_formatter(&|share| if (0.0..=1.0).contains(share) { format!("{:.0} %", 100.0 * share) } else { String::new() })
        .y_desc(&bars.y)
        .draw()?;
    // Names of groups are text in the plot: plotters' axes of names do not take bars beside each other.
    let centred = ("sans-serif", 15).into_font().into_text_style(&root).pos(Pos::new(HPos::Center, VPos::Top));
    chart.draw_series(bars.groups.iter().enumerate().map(|(group, name)| Text::new(name.clone(), (group as f64 + 0.5, -0.02), centred.clone())))?;
    let width = 0.8 / bars.series.len().max(1) as f64;
    for (s, (name, values)) in bars.series.iter().enumerate() {
        let colour = COLOURS[s % COLOURS.len()];
        let left = |group: usize| group as f64 + 0.1 + s as f64 * width;
        let means = values.iter().enumerate().filter(|(_, v)| !v.is_empty()).map(|(group, v)| {
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            Rectangle::new([(left(group) + 0.06 * width, 0.0), (left(group) + 0.94 * width, mean)], colour.filled())
        });
        chart.draw_series(means)?.label(name.as_str()).legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 14, y + 6)], colour.filled()));
        let dots = values.iter().enumerate().flat_map(|(group, v)| {
            let step = width / (v.len() as f64 + 1.0);
            v.iter().enumerate().map(move |(i, value)| (left(group) + step * (i as f64 + 1.0), *value))
        });
        chart.draw_series(dots.map(|at| Circle::new(at, 4, BLACK.stroke_width(1))))?;
    }
    // In pieces of our own: plotters' DashedLineSeries may reach a step that rounds to zero, and then never ends.
    let pieces = 40 * groups;
    let piece = |i: usize| (i as f64 / pieces as f64 * groups as f64, (i as f64 + 0.6) / pieces as f64 * groups as f64);
    let dashes = (0..pieces).map(piece).map(|(from, to)| PathElement::new([(from, bars.chance), (to, bars.chance)], BLACK.stroke_width(1)));
    chart.draw_series(dashes)?.label("chance").legend(|(x, y)| PathElement::new([(x, y), (x + 14, y)], BLACK.stroke_width(1)));
    let above = SeriesLabelPosition::UpperLeft;
    chart.configure_series_labels().position(above).background_style(WHITE).border_style(BLACK.mix(0.2)).label_font(("sans-serif", 14)).draw()?;
    root.present()?;
    Ok(())
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
        let svg = bars(&drawn).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
        assert_eq!(svg.matches("<circle").count(), 6);
        for text in ["iid", "new", "none", "one", "two", "chance", "right", "What &amp; why"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
