//! What a person sees of a run: a progress line while it lasts, a table at its end, a trace when something fell.

use crate::checking::{Failure, Verdict};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A line on standard error, renewed about once a second.
pub struct Progress {
    name: String,
    enabled: bool,
    in_place: bool,
    start: Instant,
    last: Instant,
}

impl Progress {
    /// Starts the clock.
    pub fn new(name: &str, enabled: bool) -> Progress {
        let in_place = std::io::stderr().is_terminal();
        Progress { name: name.to_owned(), enabled, in_place, start: Instant::now(), last: Instant::now() }
    }

    /// Shows the line if a second has passed (ten, where standard error is not a terminal).
    pub fn show(&mut self, unique: usize, depth: usize, expanded: Option<&AtomicUsize>) {
        let pause = Duration::from_secs(if self.in_place { 1 } else { 10 });
        if !self.enabled || self.last.elapsed() < pause {
            return;
        }
        self.last = Instant::now();
        let rate = unique as f64 / self.start.elapsed().as_secs_f64();
        let frontier = expanded.map(|count| unique.saturating_sub(count.load(Ordering::Relaxed)));
        let frontier = frontier.map_or_else(String::new, |frontier| format!(", frontier {}", grouped(frontier)));
        let line =
            format!("{}: {} states, {}/s, depth {depth}{frontier}", self.name, grouped(unique), grouped(rate as usize));
        let (before, after) = if self.in_place { ("\r\x1b[2K", "") } else { ("", "\n") };
        eprint!("{before}{line}{after}");
        let _ = std::io::stderr().flush();
    }

    /// Removes the line.
    pub fn clear(&self) {
        if self.enabled && self.in_place {
            eprint!("\r\x1b[2K");
        }
    }
}

/// The table at the end of `check`.
#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 8]>,
}

impl Table {
    /// Adds a scope's row; `verdict_text` is `holds` or what went wrong, in few words.
    pub fn add(&mut self, scope: &str, verdict: &Verdict, verdict_text: &str) {
        let seconds = verdict.elapsed.as_secs_f64();
        self.rows.push([
            scope.to_owned(),
            grouped(verdict.unique),
            grouped((verdict.unique as f64 / seconds.max(1e-3)) as usize),
            verdict.depth.to_string(),
            verdict.memory.checked_div(verdict.unique).map_or_else(|| String::from("-"), grouped),
            format!("{seconds:.1}"),
            verdict.always.to_string(),
            verdict_text.to_owned(),
        ]);
    }

    /// The table as text.
    pub fn render(&self) -> String {
        let head = ["scope", "unique states", "states/s", "depth", "bytes/state", "seconds", "always", "verdict"];
        render_columns(&head, &self.rows)
    }
}

/// Columns, first and last to the left, numbers to the right.
pub fn render_columns<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut out = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let left = column == 0 || column + 1 == N;
            let width = width(column);
            let _ = if left { write!(out, "{cell:<width$}  ") } else { write!(out, "{cell:>width$}  ") };
        }
        let _ = writeln!(text, "{}", out.trim_end());
    };
    line(*head);
    for row in rows {
        line(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

/// A counterexample as a short readable trace.
pub fn render_failure(failure: &Failure) -> String {
    let mut text = format!("property falls: {}\n", failure.property);
    for (number, line) in failure.trace.lines.iter().enumerate() {
        let _ = writeln!(text, "{:>4}  {line}", number + 1);
    }
    if !failure.trace.last_word.is_empty() {
        let _ = writeln!(text, "      {}", failure.trace.last_word);
    }
    text
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_328_669), "1,328,669");
    }
}
