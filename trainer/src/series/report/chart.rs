//! Plots as SVG, each a file that stands by itself and follows the reader's light or dark setting.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

/// Text and axes; the style sheet of [`finish`] replaces it.
const INK: RGBColor = RGBColor(1, 1, 1);
/// Grid lines; replaced likewise.
const GRID: RGBColor = RGBColor(2, 2, 2);
/// Behind the legend; replaced likewise.
const PAPER: RGBColor = RGBColor(3, 3, 3);
/// Colours that are told apart on light and dark paper, and by most colour-blind readers (after Okabe and Ito 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 140, 220),
    RGBColor(190, 140, 0),
    RGBColor(128, 128, 128),
];
/// Width and height of a plot.
const SIZE: (u32, u32) = (760, 420);

/// Points with one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Marks {
    /// What the legend says.
    pub name: String,
    /// Whether a line joins the points.
    pub joined: bool,
    /// The points, and what is written beside each.
    pub points: Vec<(f64, f64, String)>,
}

/// Points over two axes, the upright one in percent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// The level axis.
    pub x: String,
    /// The upright axis.
    pub y: String,
    /// Whether the level axis is logarithmic; its values must then be positive.
    pub logarithmic: bool,
    /// What is drawn.
    pub marks: Vec<Marks>,
}

/// Bars in groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bars {
    /// What it shows.
    pub title: String,
    /// The level axis, one group a number from 1 on.
    pub x: String,
    /// The upright axis.
    pub y: String,
    /// Name of each bar of a group, and its height in every group.
    pub bars: Vec<(String, Vec<usize>)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws points.
pub fn points(chart: &Chart) -> anyhow::Result<String> {
    let all = || chart.marks.iter().flat_map(|it| &it.points);
    let y = around(all().map(|it| it.1), 0.06);
    draw(&chart.title, |area| match chart.logarithmic {
        true => {
            let decades = around(all().map(|it| it.0.log10()), 0.08);
            let x = 10_f64.powf(decades.start)..10_f64.powf(decades.end);
            plot(area, chart, x.log_scale(), y)
        }
        false => plot(area, chart, around(all().map(|it| it.0), 0.03), y),
    })
}

/// Draws bars.
pub fn bars(bars: &Bars) -> anyhow::Result<String> {
    let groups = bars.bars.iter().map(|it| it.1.len()).max().unwrap_or(0);
    let highest = bars.bars.iter().flat_map(|it| &it.1).max().copied().unwrap_or(0);
    draw(&bars.title, |area| {
        let mut context = ChartBuilder::on(area)
            .caption(&bars.title, font(18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.5..groups as f64 + 0.5, 0.0..1.08 * highest.max(1) as f64)?;
        let mut mesh = context.configure_mesh();
        mesh.disable_x_mesh().x_labels(groups + 1);
        mesh.x_desc(&bars.x).y_desc(&bars.y).label_style(font(14));
        mesh.axis_style(INK).bold_line_style(GRID).light_line_style(TRANSPARENT);
        mesh.draw()?;
        let width = 0.8 / bars.bars.len().max(1) as f64;
        for (place, (name, heights)) in bars.bars.iter().enumerate() {
            let colour = colour(place);
            let rectangle = |(group, height): (usize, &usize)| {
                let left = group as f64 + 0.6 + place as f64 * width;
                Rectangle::new([(left, 0.0), (left + 0.9 * width, *height as f64)], colour.filled())
            };
            context
                .draw_series(heights.iter().enumerate().map(rectangle))?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], colour.filled()));
        }
        let mut legend = context.configure_series_labels();
        legend.position(SeriesLabelPosition::UpperLeft).label_font(font(13));
        Ok(legend.background_style(PAPER).border_style(GRID).draw()?)
    })
}

fn draw(title: &str, on: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    on(&area)?;
    area.present()?;
    drop(area);
    Ok(finish(title, &svg))
}

fn plot<X>(area: &Area<'_>, chart: &Chart, x: X, y: Range<f64>) -> anyhow::Result<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut context = ChartBuilder::on(area)
        .caption(&chart.title, font(18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(x, y)?;
    let mut mesh = context.configure_mesh();
    mesh.x_desc(&chart.x).y_desc(&chart.y).label_style(font(14));
    mesh.x_label_formatter(&|it| format!("{it}"));
    mesh.axis_style(INK).bold_line_style(GRID).light_line_style(TRANSPARENT);
    mesh.draw()?;
    for (place, marks) in chart.marks.iter().enumerate() {
        let colour = colour(place);
        let at = marks.points.iter().map(|it| (it.0, it.1));
        if marks.joined {
            context.draw_series(LineSeries::new(at.clone(), colour.stroke_width(2)))?;
        }
        let radius = if marks.joined { 2 } else { 5 };
        context
            .draw_series(at.map(|it| Circle::new(it, radius, colour.filled())))?
            .label(&marks.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], colour.filled()));
        let texts = marks.points.iter().filter(|it| !it.2.is_empty());
        context.draw_series(
            texts.map(|(x, y, text)| EmptyElement::at((*x, *y)) + Text::new(text.clone(), (7, -5), font(12))),
        )?;
    }
    let mut legend = context.configure_series_labels();
    legend.position(SeriesLabelPosition::LowerRight).label_font(font(13));
    Ok(legend.background_style(PAPER).border_style(GRID).draw()?)
}

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn colour(place: usize) -> RGBColor {
    COLOURS[place % COLOURS.len()]
}

/// The range of some values, and a share of it on both sides; never empty.
fn around(values: impl Iterator<Item = f64>, share: f64) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| {
        (low.min(it), high.max(it))
    });
    if low > high {
        return 0.0..1.0;
    }
    let margin = share * (high - low).max(0.5);
    low - margin..high + margin
}

/// Gives a drawing its title for screen readers, and the style sheet that replaces the colours of ink, grid and paper.
fn finish(title: &str, svg: &str) -> String {
    const STYLE: &str = r##"<style>
svg { background: #fff; }
[fill="#010101"] { fill: #1b1f24; } [stroke="#010101"] { stroke: #1b1f24; }
[stroke="#020202"] { stroke: #d5d9de; } [fill="#030303"] { fill: #fff; }
@media (prefers-color-scheme: dark) {
svg { background: #16191d; }
[fill="#010101"] { fill: #e4e7eb; } [stroke="#010101"] { stroke: #e4e7eb; }
[stroke="#020202"] { stroke: #3a4048; } [fill="#030303"] { fill: #16191d; }
}
</style>"##;
    let title = super::page::escape(title);
    match svg.split_once(">\n") {
        Some((opening, rest)) => format!("{opening} role=\"img\">\n<title>{title}</title>\n{STYLE}\n{rest}"),
        None => svg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_drawn_and_named() {
        let marks = |name: &str, joined| Marks {
            name: name.into(),
            joined,
            points: vec![(10.0, 80.0, "a & b".into()), (1000.0, 85.0, String::new())],
        };
        let chart = Chart {
            title: "bytes < 1000".into(),
            logarithmic: true,
            marks: vec![marks("ours", false), marks("WebP", true)],
            ..Chart::default()
        };
        let svg = points(&chart).unwrap();
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains("ours") && svg.contains("WebP") && svg.contains("a &amp; b"));
        assert!(svg.contains("<title>bytes &lt; 1000</title>"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn nothing_to_draw_is_an_empty_plot() {
        for logarithmic in [false, true] {
            let chart = Chart {
                logarithmic,
                ..Chart::default()
            };
            assert!(points(&chart).unwrap().contains("</svg>"));
        }
        assert!(bars(&Bars::default()).unwrap().contains("</svg>"));
    }
}
