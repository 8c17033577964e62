//! The table that is printed at the end.

use std::fmt;

/// What a figure is held to.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// Nothing.
    None,
    /// At most this, in the figure's own unit.
    AtMost(f64),
    /// At least this, in the figure's own unit.
    AtLeast(f64),
    /// At most this many times what stands beside it.
    TimesAtMost(f64),
    /// At least this many times what stands beside it.
    TimesAtLeast(f64),
}

/// One line.
struct Row {
    what: String,
    figure: f64,
    unit: &'static str,
    beside: Option<(&'static str, f64)>,
    bar: Bar,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.beside.map(|(_, beside)| self.figure / beside)
    }

    fn bar_and_whether_met(&self) -> (String, Option<bool>) {
        let times = |met: fn(&f64, &f64) -> bool, bar: f64| self.ratio().map(|ratio| met(&ratio, &bar));
        match self.bar {
            Bar::None => (String::new(), None),
            Bar::AtMost(bar) => (format!("≤ {} {}", number(bar), self.unit), Some(self.figure <= bar)),
            Bar::AtLeast(bar) => (format!("≥ {} {}", number(bar), self.unit), Some(self.figure >= bar)),
            Bar::TimesAtMost(bar) => (format!("≤ {bar}×"), times(f64::le, bar)),
            Bar::TimesAtLeast(bar) => (format!("≥ {bar}×"), times(f64::ge, bar)),
        }
    }
}

/// All lines so far.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Table {
    /// Adds a figure that stands for itself.
    pub(crate) fn add(&mut self, what: impl Into<String>, figure: f64, unit: &'static str, bar: Bar) {
        self.push(Row { what: what.into(), figure, unit, beside: None, bar });
    }

    /// Adds a figure beside that of `other`.
    pub(crate) fn compare(
        &mut self,
        what: impl Into<String>,
        figure: f64,
        unit: &'static str,
        beside: (&'static str, f64),
        bar: Bar,
    ) {
        self.push(Row { what: what.into(), figure, unit, beside: Some(beside), bar });
    }

    /// Adds a remark.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        eprintln!("{note}");
        self.notes.push(note);
    }

    fn push(&mut self, row: Row) {
        let beside =
            row.beside.map_or_else(String::new, |(who, figure)| format!(" ({who} {})", number(figure)));
        eprintln!("{}: {} {}{beside}", row.what, number(row.figure), row.unit);
        self.rows.push(row);
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<46} {:>14} {:>20} {:>8}  {:<12}", "", "MusicFS", "beside", "ratio", "bar")?;
        for row in &self.rows {
            let figure = format!("{} {}", number(row.figure), row.unit);
            let beside = row
                .beside
                .map(|(who, value)| format!("{who} {} {}", number(value), row.unit))
                .unwrap_or_default();
            let ratio = row.ratio().map(|ratio| format!("{}×", number(ratio))).unwrap_or_default();
            let (bar, met) = row.bar_and_whether_met();
            let met = match met {
                None => "",
                Some(true) => "met",
                Some(false) => "MISSED",
            };
            writeln!(f, "{:<46} {figure:>14} {beside:>20} {ratio:>8}  {bar:<12} {met}", row.what)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}
