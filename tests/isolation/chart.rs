//! The latencies, drawn.

use std::fmt::Write;

use crate::report::Row;

/// Pixels: of a row, of the names, of the bars, of the numbers.
const ROW: usize = 34;
const NAMES: usize = 210;
const BARS: usize = 420;
const NUMBERS: usize = 110;
const TOP: usize = 46;

/// Bars of p50 and p99, one row an attacker.
pub fn svg(rows: &[Row]) -> String {
    let (width, height) = (NAMES + BARS + NUMBERS, TOP + ROW * rows.len() + 12);
    let most = rows.iter().map(|row| row.p99).max().unwrap_or(1).max(1);
    let length = |micros: u32| (micros as usize * BARS / most as usize).max(1);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">
<rect width="{width}" height="{height}" fill="#ffffff"/>
<text x="12" y="20" font-size="14" fill="#222222">Latency of a tenant's lines, from write to output, beside…</text>
<rect x="{NAMES}" y="28" width="12" height="8" fill="#2f6f8f"/><text x="{}" y="36" fill="#444444">p50</text>
<rect x="{}" y="28" width="12" height="8" fill="#9cc3d5"/><text x="{}" y="36" fill="#444444">p99</text>
"##,
        NAMES + 16,
        NAMES + 52,
        NAMES + 68,
    );
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + ROW * number;
        let _ = write!(
            svg,
            r##"<text x="{}" y="{}" text-anchor="end" fill="#222222">{}</text>
<rect x="{NAMES}" y="{y}" width="{}" height="10" fill="#2f6f8f"/>
<rect x="{NAMES}" y="{}" width="{}" height="10" fill="#9cc3d5"/>
<text x="{}" y="{}" fill="#222222">{:.1} · {:.1} ms</text>
"##,
            NAMES - 10,
            y + 15,
            row.beside,
            length(row.p50),
            y + 12,
            length(row.p99),
            NAMES + BARS + 8,
            y + 15,
            f64::from(row.p50) / 1e3,
            f64::from(row.p99) / 1e3,
        );
    }
    svg + "</svg>\n"
}
