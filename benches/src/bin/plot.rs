//! Draws a table of a `ratios` bench: figures in, an SVG out.
//!
//! ```sh
//! cargo bench -p fanfare-benches --bench ratios -- emit |
//!     cargo run -q -p fanfare-benches --bin plot "One emit to N listeners" emit >emit.svg
//! ```
//!
//! The arguments are the title and what is done once in those nanoseconds. A `grep` in between draws
//! fewer cases. The SVG is written by hand: a plotting crate knows no labelled bars in groups, so each bar
//! and text would be placed here all the same, and no style sheet, which is what makes the file small
//! and dark in dark mode.

use std::fmt::Write;
use std::{env, io, process};

use fanfare_benches::Figure;

/// What the benches call fanfare's ways to emit; where none of them is in a group, all of it is fanfare's.
const OURS: [&str; 6] = ["fanfare", "event", "publisher", "name", "key", "emit_async"];

const WIDTH: f64 = 760.0;
const BARS_LEFT: f64 = 170.0;
const BARS_RIGHT: f64 = 630.0;
const ROW: f64 = 18.0;

// Text has a rim in the colour of the card, so that it can stand on the grid.
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1f2328;stroke:#fff;stroke-width:3;paint-order:stroke}.h{font-weight:bold}.m{fill:#59636e}\
    .e{text-anchor:end}.c{text-anchor:middle}.card{fill:#fff}.grid{stroke:#d1d9e0}.a{fill:#afb8c1}.f{fill:#0969da}\
    @media(prefers-color-scheme:dark){text{fill:#f0f6fc;stroke:#0d1117}.m{fill:#9198a1}.card{fill:#0d1117}.grid{stroke:#3d444d}\
    .a{fill:#656c76}.f{fill:#4493f8}}";

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [title, what] = &arguments[..] else {
        eprintln!("usage: plot TITLE WHAT <figures >svg");
        process::exit(2);
    };
    let figures = Figure::read(&io::read_to_string(io::stdin())?)?;
    if !figures.iter().any(|figure| figure.ns > 0.0) {
        eprintln!("no figures came in: pipe the lines of a `ratios` bench here");
        process::exit(2);
    }
    print!("{}", svg(title, what, &figures));
    Ok(())
}

fn svg(title: &str, what: &str, figures: &[Figure]) -> String {
    let axis = Axis::of(figures);
    let mut marks = String::new();
    let mut y = 40.0;
    for group in groups(figures) {
        group.draw(&axis, &mut y, &mut marks);
    }
    let grid = grid(&axis, y);
    let (height, middle) = (y + 48.0, (BARS_LEFT + BARS_RIGHT) / 2.0);
    let title = escaped(title);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">
<title>{title}</title>
<style>{STYLE}</style>
<rect class="card" width="{WIDTH}" height="{height}" rx="6"/>
<text class="h" x="16" y="26" style="font-size:15px">{title}</text>
{grid}{marks}<text class="m c" x="{middle}" y="{}">nanoseconds per {}, less is better; blue is fanfare{}</text>
</svg>
"#,
        y + 36.0,
        escaped(what),
        if axis.is_logarithmic { "; the axis is logarithmic" } else { "" },
    )
}

fn grid(axis: &Axis, bottom: f64) -> String {
    let mut marks = String::new();
    for tick in axis.ticks() {
        let x = axis.x(tick);
        _ = writeln!(marks, r#"<path class="grid" d="M{x:.1} 40V{bottom}"/>"#);
        _ = writeln!(marks, r#"<text class="m c" x="{x:.1}" y="{}">{tick}</text>"#, bottom + 16.0);
    }
    marks
}

/// The figures of one case, with what sets each apart from the others.
struct Group<'a> {
    case: &'a str,
    against: &'a str,
    bars: Vec<(&'a str, &'a Figure)>,
}

/// Finds the cases: each begins with the contender that the others are compared with.
fn groups(figures: &[Figure]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for figure in figures {
        let base = figure.case.strip_suffix(&figure.against);
        let same = groups.last_mut().and_then(|group| Some((figure.case.strip_prefix(group.case)?, group)));
        match (base, same) {
            (None, Some((name, group))) => group.bars.push((name.trim_start_matches([' ', ',']), figure)),
            (base, _) => {
                // Compared with what has no line of its own: then the last word is the contender.
                let (case, name) = base
                    .map(|case| (case, &figure.against[..]))
                    .or_else(|| figure.case.rsplit_once(' '))
                    .unwrap_or(("", &figure.case));
                let case = case.trim_end_matches([' ', ',']);
                groups.push(Group { case, against: &figure.against, bars: vec![(name, figure)] });
            }
        }
    }
    groups
}

impl Group<'_> {
    fn draw(&self, axis: &Axis, y: &mut f64, marks: &mut String) {
        let (case, against) = (escaped(self.case), escaped(self.against));
        _ = writeln!(
            marks,
            r#"<text class="h" x="16" y="{}">{case} <tspan class="m" font-weight="normal">ratios to {against}</tspan></text>"#,
            *y + 13.0
        );
        *y += ROW;
        let is_mixed = self.bars.iter().any(|(name, _)| OURS.contains(name));
        for (name, Figure { ns, ratio, .. }) in &self.bars {
            let class = if is_mixed && !OURS.contains(name) { "a" } else { "f" };
            let (right, baseline) = (axis.x(*ns), *y + 13.0);
            _ = writeln!(
                marks,
                r#"<text class="e" x="{}" y="{baseline}">{}</text><path class="{class}" d="M{BARS_LEFT} {}H{right:.1}v14H{BARS_LEFT}"/><text x="{:.1}" y="{baseline}">{} ns, {}×</text>"#,
                BARS_LEFT - 6.0,
                escaped(name),
                *y + 2.0,
                right + 5.0,
                rounded(*ns),
                rounded(*ratio),
            );
            *y += ROW;
        }
        *y += ROW / 2.0;
    }
}

/// From nanoseconds to where they are in the picture.
struct Axis {
    is_logarithmic: bool,
    start: f64,
    end: f64,
}

impl Axis {
    /// Logarithmic where the figures are more than twenty times apart.
    fn of(figures: &[Figure]) -> Self {
        let least = figures.iter().map(|figure| figure.ns).fold(f64::INFINITY, f64::min);
        let end = figures.iter().map(|figure| figure.ns).fold(0.0, f64::max);
        let is_logarithmic = end > 20.0 * least;
        // Half of the least, so that it has a bar.
        let start = if is_logarithmic { least / 2.0 } else { 0.0 };
        Self { is_logarithmic, start, end }
    }

    fn x(&self, ns: f64) -> f64 {
        let part = if self.is_logarithmic {
            (ns / self.start).log10() / (self.end / self.start).log10()
        } else {
            ns / self.end
        };
        BARS_LEFT + part * (BARS_RIGHT - BARS_LEFT)
    }

    fn ticks(&self) -> Vec<f64> {
        let decade = self.end.log10().floor() as i32;
        if self.is_logarithmic {
            let between: &[f64] = if self.end / self.start < 1000.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let decades = self.start.log10().floor() as i32..=decade;
            let ticks = decades.flat_map(|n| between.iter().map(move |tick| tick * 10f64.powi(n)));
            return ticks.filter(|tick| (self.start..=self.end).contains(tick)).collect();
        }
        let ten = 10f64.powi(decade);
        let step = match self.end / ten {
            ..1.2 => ten / 5.0,
            ..3.0 => ten / 2.0,
            ..6.0 => ten,
            _ => ten * 2.0,
        };
        (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= self.end).collect()
    }
}

/// Three digits that count, at most two of them behind the point.
fn rounded(number: f64) -> String {
    let digits = if number < 9.995 {
        2
    } else if number < 99.95 {
        1
    } else {
        0
    };
    format!("{number:.digits$}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
