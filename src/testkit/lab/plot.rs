//! A plot of series over one axis, as an SVG of its own: no script, no font but the viewer's sans-serif, readable in print
//! and without colours (each series has its own dashes and mark). Numbers go in, the file's text comes out.

use std::fmt::Write;

/// Size of a plot, px.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 500.0;
/// Borders of the drawn area: left, right, top, bottom.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 62.0;

/// Colours that people with any colour vision can tell apart (Okabe and Ito's set), darkest contrast first.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#56b4e9", "#4d4d4d"];
const DASHES: [&str; 7] = ["", "7 4", "2 3", "10 3 2 3", "", "7 4", "2 3"];

/// An axis: what it says, where it begins and ends.
#[derive(Debug, Clone)]
pub struct Axis {
    title: String,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    /// A linear axis. `from` may be the larger end.
    pub fn new(title: &str, from: f64, to: f64) -> Self {
        Self { title: title.to_owned(), from, to, logarithmic: false }
    }

    /// A logarithmic axis; both ends above 0.
    pub fn log(title: &str, from: f64, to: f64) -> Self {
        Self { title: title.to_owned(), from: from.max(1e-12), to: to.max(1e-12), logarithmic: true }
    }

    /// 0–100 %.
    pub fn percent(title: &str) -> Self {
        Self::new(title, 0.0, 100.0)
    }

    /// Where a value lies, 0–1 (clipped).
    fn place(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(1e-300) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Values to mark.
    fn ticks(&self) -> Vec<f64> {
        let (low, high) = (self.from.min(self.to), self.from.max(self.to));
        if self.logarithmic {
            let first = low.log10().ceil() as i32;
            let last = high.log10().floor() as i32;
            return (first..=last).map(|n| 10f64.powi(n)).collect();
        }
        let span = (high - low).max(f64::MIN_POSITIVE);
        let rough = 10f64.powf((span / 13.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * rough).into_iter().find(|s| span / s <= 13.0);
        let step = step.unwrap_or(span);
        let first = (low / step - 1e-9).ceil() as i64;
        (first..).map(|n| n as f64 * step).take_while(|v| *v <= high + step * 1e-6).take(30).collect()
    }
}

/// `0.5`, `-20`, `100`: no more digits than needed, with a real minus.
fn number(value: f64) -> String {
    let mut text = format!("{value:.4}");
    while text.ends_with('0') {
        text.pop();
    }
    let text = text.trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.replace('-', "−") }
}

/// One line of a plot.
#[derive(Debug, Clone)]
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    /// Bounds per point, as (low, high).
    bounds: Vec<(f64, f64)>,
    marks: bool,
    steps: bool,
}

impl Series {
    /// A line through `points` with a mark on each.
    pub fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), points, bounds: Vec::new(), marks: true, steps: false }
    }

    /// Shades the bounds around it, one pair per point.
    pub fn bounds(mut self, bounds: Vec<(f64, f64)>) -> Self {
        self.bounds = bounds;
        self
    }

    /// A cumulative distribution of `values`, in percent of `of` (those that never came count as never).
    pub fn distribution(name: &str, values: &[f64], of: usize) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let part = |n: usize| 100.0 * n as f64 / of.max(1) as f64;
        let mut points = Vec::new();
        for (n, value) in values.iter().enumerate() {
            // One step per distinct value.
            if values.get(n + 1) != Some(value) {
                points.push((*value, part(n + 1)));
            }
        }
        Self { name: name.to_owned(), points, bounds: Vec::new(), marks: false, steps: true }
    }
}

/// A stretch of the x axis with a meaning, shaded.
#[derive(Debug, Clone)]
pub struct Zone {
    from: f64,
    to: f64,
    label: String,
    colour: &'static str,
}

impl Zone {
    /// Here something must happen.
    pub fn must(from: f64, to: f64, label: &str) -> Self {
        Self { from, to, label: label.to_owned(), colour: "#e3f1e6" }
    }

    /// Here it must not.
    pub fn must_not(from: f64, to: f64, label: &str) -> Self {
        Self { from, to, label: label.to_owned(), colour: "#f8e5e2" }
    }
}

/// A plot.
#[derive(Debug, Clone)]
pub struct Plot {
    /// File name without ending.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What was measured: stimulus, n, seed.
    pub subtitle: String,
    /// Across.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// Lines, first on top.
    pub series: Vec<Series>,
    /// Shaded stretches of the x axis.
    pub zones: Vec<Zone>,
    /// Horizontal lines with their meaning: bars to be met.
    pub levels: Vec<(f64, String)>,
}

impl Plot {
    /// A plot without lines.
    pub fn new(name: &str, title: &str, x: Axis, y: Axis) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            subtitle: String::new(),
            x,
            y,
            series: Vec::new(),
            zones: Vec::new(),
            levels: Vec::new(),
        }
    }

    fn at(&self, point: (f64, f64)) -> (f64, f64) {
        let x = LEFT + self.x.place(point.0) * (WIDTH - LEFT - RIGHT);
        let y = HEIGHT - BOTTOM - self.y.place(point.1) * (HEIGHT - TOP - BOTTOM);
        (x, y)
    }

    /// The file's text.
    pub fn svg(&self) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\" font-size=\"13\" fill=\"#222\">\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            escaped(&self.title)
        );
        self.heading(&mut out);
        self.zones(&mut out);
        self.grid(&mut out);
        self.levels(&mut out);
        for (n, series) in self.series.iter().enumerate().rev() {
            self.line(&mut out, n, series);
        }
        out += "</svg>\n";
        out
    }

    fn heading(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"28\" font-size=\"17\" font-weight=\"600\">{}</text>",
            escaped(&self.title)
        );
        let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"48\" fill=\"#666\">{}</text>", escaped(&self.subtitle));
        let mut x = LEFT;
        for (n, series) in self.series.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let dashes = DASHES[n % DASHES.len()];
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" y1=\"70\" x2=\"{:.1}\" y2=\"70\" stroke=\"{colour}\" stroke-width=\"2.4\" stroke-dasharray=\"{dashes}\"/>",
                x + 28.0
            );
            if series.marks {
                mark(out, n, x + 14.0, 70.0);
            }
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"74.5\">{}</text>", x + 35.0, escaped(&series.name));
            x += 35.0 + 7.3 * series.name.chars().count() as f64 + 24.0;
        }
    }

    fn zones(&self, out: &mut String) {
        for zone in &self.zones {
            let (a, b) = (self.at((zone.from, 0.0)).0, self.at((zone.to, 0.0)).0);
            let (left, right) = (a.min(b), a.max(b));
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                right - left,
                HEIGHT - TOP - BOTTOM,
                zone.colour
            );
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" fill=\"#666\" text-anchor=\"middle\">{}</text>",
                (left + right) / 2.0,
                TOP - 6.0,
                escaped(&zone.label)
            );
        }
    }

    fn grid(&self, out: &mut String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in self.y.ticks() {
            let y = self.at((self.x.from, tick)).1;
            let _ =
                writeln!(out, "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#00000018\"/>");
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#444\">{}</text>",
                LEFT - 9.0,
                y + 4.5,
                number(tick)
            );
        }
        for tick in self.x.ticks() {
            let x = self.at((tick, self.y.from)).0;
            let _ =
                writeln!(out, "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#00000010\"/>");
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">{}</text>",
                bottom + 20.0,
                number(tick)
            );
        }
        let _ = writeln!(out, "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>");
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 16.0,
            escaped(&self.x.title)
        );
        let middle = (TOP + bottom) / 2.0;
        let _ = writeln!(
            out,
            "<text x=\"20\" y=\"{middle:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 20 {middle:.1})\">{}</text>",
            escaped(&self.y.title)
        );
    }

    fn levels(&self, out: &mut String) {
        for (level, label) in &self.levels {
            let y = self.at((self.x.from, *level)).1;
            let right = WIDTH - RIGHT;
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#222\" stroke-dasharray=\"3 3\"/>"
            );
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"end\" fill=\"#222\">{}</text>",
                right - 6.0,
                y - 5.0,
                escaped(label)
            );
        }
    }

    fn line(&self, out: &mut String, n: usize, series: &Series) {
        let colour = COLOURS[n % COLOURS.len()];
        let dashes = DASHES[n % DASHES.len()];
        let points: Vec<(f64, f64)> = series.points.iter().map(|p| self.at(*p)).collect();
        if !series.bounds.is_empty() {
            let edge = |pick: fn(&(f64, f64)) -> f64| {
                series.points.iter().zip(&series.bounds).map(move |(p, b)| (p.0, pick(b))).collect::<Vec<_>>()
            };
            let around = edge(|b| b.1).into_iter().chain(edge(|b| b.0).into_iter().rev());
            let path: Vec<String> = around.map(|p| self.at(p)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(out, "<polygon points=\"{}\" fill=\"{colour}\" opacity=\"0.14\"/>", path.join(" "));
        }
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let _ = match (index, series.steps) {
                (0, true) => write!(path, "M{LEFT} {:.1}H{x:.1}V{y:.1}", HEIGHT - BOTTOM),
                (0, false) => write!(path, "M{x:.1} {y:.1}"),
                (_, true) => write!(path, "H{x:.1}V{y:.1}"),
                (_, false) => write!(path, "L{x:.1} {y:.1}"),
            };
        }
        if series.steps && !points.is_empty() {
            let _ = write!(path, "H{}", WIDTH - RIGHT);
        }
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\" stroke-linejoin=\"round\" stroke-dasharray=\"{dashes}\"/>"
        );
        if series.marks {
            for (x, y) in points {
                mark(out, n, x, y);
            }
        }
    }
}

/// The mark of series `n`: circle, square, triangle, diamond.
fn mark(out: &mut String, n: usize, x: f64, y: f64) {
    let colour = COLOURS[n % COLOURS.len()];
    let style = format!("fill=\"#fff\" stroke=\"{colour}\" stroke-width=\"1.8\"");
    let _ = match n % 4 {
        0 => writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\" {style}/>"),
        1 => writeln!(out, "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"5.8\" height=\"5.8\" {style}/>", x - 2.9, y - 2.9),
        2 => writeln!(out, "<path d=\"M{x:.1} {:.1}l3.7 6.2h-7.4z\" {style}/>", y - 3.9),
        _ => writeln!(out, "<path d=\"M{x:.1} {:.1}l3.9 3.9l-3.9 3.9l-3.9 -3.9z\" {style}/>", y - 3.9),
    };
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Axis::new("", 0.0, 100.0).ticks(), (0..=10).map(|n| f64::from(n) * 10.0).collect::<Vec<_>>());
        assert_eq!(Axis::new("", 30.0, 0.0).ticks().len(), 7);
        assert_eq!(Axis::log("", 0.01, 100.0).ticks(), [0.01, 0.1, 1.0, 10.0, 100.0]);
        let fine = Axis::new("", 0.0, 4.5).ticks();
        assert!(fine.len() >= 5 && fine.iter().all(|t| (0.0..=4.5).contains(t)), "{fine:?}");
        assert_eq!(number(-2.5), "−2.5");
        assert_eq!(number(100.0), "100");
    }

    #[test]
    fn a_distribution_ends_at_the_share_that_came_at_all() {
        let series = Series::distribution("", &[3.0, 1.0, 1.0], 4);
        assert_eq!(series.points, [(1.0, 50.0), (3.0, 75.0)]);
    }

    #[test]
    fn a_plot_is_well_formed_whatever_it_is_given() {
        let mut plot = Plot::new("p", "a < b & \"c\"", Axis::new("x", 0.0, 10.0), Axis::percent("y"));
        let wild = vec![(0.0, 50.0), (f64::NAN, f64::INFINITY), (99.0, -3.0)];
        plot.series.push(Series::new("one", wild).bounds(vec![(40.0, 60.0); 3]));
        plot.series.push(Series::distribution("two", &[], 0));
        plot.zones.push(Zone::must(1.0, 2.0, "must"));
        plot.levels.push((99.0, "bar".to_owned()));
        let svg = plot.svg();
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
