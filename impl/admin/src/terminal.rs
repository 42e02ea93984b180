//! The width of the terminal that a person looks at.

use std::io::IsTerminal;
use std::os::fd::AsRawFd;

/// Columns of the terminal on standard output; `None` where it is none.
pub fn width() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    // SAFETY: the call fills the structure, which is plain numbers, or fails.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(out.as_raw_fd(), libc::TIOCGWINSZ, &mut size) == 0).then_some(size)
    };
    size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Breaks lines between words, so that none is wider than `width`; words that are wider stay whole.
pub fn wrapped(text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let mut now = indent.to_owned();
        for (index, word) in rest.split(' ').enumerate() {
            let too_wide = now.chars().count() + 1 + word.chars().count() > width;
            if index > 0 && !word.is_empty() && too_wide {
                lines.push(now.trim_end().to_owned());
                now = format!("{indent}  {word}");
            } else {
                now.push_str(if index > 0 { " " } else { "" });
                now.push_str(word);
            }
        }
        lines.push(now.trim_end().to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_keep_their_indent() {
        assert_eq!(wrapped("one two three", 8), "one two\n  three");
        assert_eq!(wrapped("  one two three\nx", 9), "  one two\n    three\nx");
        assert_eq!(wrapped("unbreakable", 3), "unbreakable");
        assert_eq!(wrapped("a  b", 80), "a  b");
    }
}
