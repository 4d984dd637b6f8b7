//! A flame graph: each function is as wide as the fuel that is used in it, and stands on the one that called it.

use std::collections::BTreeMap;
use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64;

use crate::sandbox::profile::Profile;

/// Pixels.
const WIDTH: f64 = 1200.0;
const ROW: f64 = 18.0;
const MARGIN: f64 = 10.0;
const TITLE: f64 = 40.0;

/// Pixels that a character takes.
const CHARACTER: f64 = 6.6;

/// Narrower functions are left out: they could not be seen.
const NARROWEST: f64 = 0.2;

/// A function that was called by those below it.
#[derive(Default)]
struct Frame<'a> {
    fuel: u64,
    callees: BTreeMap<&'a str, Frame<'a>>,
}

impl Frame<'_> {
    fn height(&self) -> usize {
        1 + self.callees.values().map(Frame::height).max().unwrap_or(0)
    }
}

/// An SVG by itself. Whoever shows it tells the whole name and the fuel of what the mouse is on.
pub fn svg(title: &str, profile: &Profile) -> String {
    let mut root = Frame::default();
    for (stack, fuel) in &profile.stacks {
        let mut frame = &mut root;
        frame.fuel += fuel;
        for name in stack {
            frame = frame.callees.entry(name).or_default();
            frame.fuel += fuel;
        }
    }
    let height = TITLE + ROW * root.height() as f64 + MARGIN;
    let width = WIDTH + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fffdf6\"/>\n\
         <text x=\"{}\" y=\"24\" font-size=\"15\" text-anchor=\"middle\">{}</text>\n",
        width / 2.0,
        escaped(title)
    );
    let drawing = Drawing { all: root.fuel.max(1) as f64, bottom: height - MARGIN - ROW };
    drawing.frame(&mut out, "all", &root, MARGIN, 0);
    out.push_str("</svg>\n");
    out
}

struct Drawing {
    /// Fuel of the whole width.
    all: f64,
    /// Where the lowest row begins.
    bottom: f64,
}

impl Drawing {
    fn frame(&self, out: &mut String, name: &str, frame: &Frame, x: f64, depth: usize) {
        let width = frame.fuel as f64 / self.all * WIDTH;
        if width < NARROWEST {
            return;
        }
        let (y, percent, name) =
            (self.bottom - ROW * depth as f64, 100.0 * frame.fuel as f64 / self.all, escaped(name));
        let _ = write!(
            out,
            "<g><title>{name} ({percent:.2} %, {} fuel)</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" \
             height=\"{}\" rx=\"1\" fill=\"{}\"/>",
            frame.fuel,
            ROW - 1.0,
            colour(&name)
        );
        let room = ((width - 6.0) / CHARACTER).max(0.0) as usize;
        if room >= 3 {
            let _ = write!(out, "<text x=\"{:.2}\" y=\"{}\">{}</text>", x + 3.0, y + 12.5, shortened(&name, room));
        }
        out.push_str("</g>\n");
        let mut x = x;
        for (callee, below) in &frame.callees {
            self.frame(out, callee, below, x, depth + 1);
            x += below.fuel as f64 / self.all * WIDTH;
        }
    }
}

/// A warm colour, the same for the same name.
fn colour(name: &str) -> String {
    let hash = xxh3_64(name.as_bytes());
    format!("rgb({},{},{})", 205 + hash % 50, 90 + (hash >> 8) % 120, (hash >> 16) % 60)
}

/// As XML has it. Names are free of control characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Its first characters, each escape as one, with two dots if some are left out.
fn shortened(escaped: &str, room: usize) -> String {
    let mut characters = Vec::new();
    let mut rest = escaped;
    while let Some(first) = rest.chars().next() {
        let end = if first == '&' { rest.find(';').map_or(1, |end| end + 1) } else { first.len_utf8() };
        characters.push(&rest[..end]);
        rest = &rest[end..];
    }
    match characters.len() <= room {
        true => escaped.to_owned(),
        false => characters[..room - 2].concat() + "..",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_as_wide_as_their_fuel() {
        let stack = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let stacks = BTreeMap::from([
            (stack(&["main", "heavy"]), 75),
            (stack(&["main", "<light as T>"]), 24),
            (stack(&["main"]), 1),
        ]);
        let svg = svg("A & B", &Profile { stacks, samples: 100 });
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(
            svg.contains("A &amp; B") && svg.contains("<title>&lt;light as T&gt; (24.00 %, 24 fuel)</title>"),
            "{svg}"
        );
        assert!(
            svg.contains("<title>heavy (75.00 %, 75 fuel)</title><rect x=\"298.00\" y=\"40\" width=\"900.00\""),
            "{svg}"
        );
        assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdef", 5), "abc..");
        assert_eq!(shortened("&lt;ü&gt;xyz", 5), "&lt;ü&gt;..");
    }
}
