//! How far something is, as one line of text.

use console::measure_text_width;

/// Widest and narrowest bar, in columns.
const BAR: (usize, usize) = (32, 8);

/// A phase and its run.
pub(super) struct Status {
    pub(super) phase: Gauge,
    pub(super) run: Gauge,
}

/// How far something is.
pub(super) struct Gauge {
    pub(super) label: String,
    pub(super) done: usize,
    pub(super) total: usize,
    /// What else to say, the most important first.
    pub(super) details: Vec<String>,
}

impl Gauge {
    /// "12/32", as wide as "32/32".
    fn fraction(&self) -> String {
        let text = format!("{}/{}", self.done, self.total);
        format!("{text:>width$}", width = 2 * self.total.to_string().len() + 1)
    }

    /// The gauge as words.
    pub(super) fn words(&self) -> String {
        let fraction = format!("{} {}", self.label, self.fraction());
        [fraction].into_iter().chain(self.details.iter().cloned()).collect::<Vec<_>>().join("  ")
    }

    /// The gauge in so many columns, its label as wide as asked for. Where space is short, first the bar goes and then the
    /// details, the least important first.
    pub(super) fn bar(&self, columns: usize, label: usize) -> Bar {
        let head = format!("{:<label$}", self.label);
        let mut tail = self.fraction();
        let mut left = columns.saturating_sub(measure_text_width(&head) + measure_text_width(&tail) + 2);
        for detail in &self.details {
            let width = measure_text_width(detail) + 2;
            if width > left {
                break;
            }
            left -= width;
            tail = format!("{tail}  {detail}");
        }
        Bar { head, length: if left > BAR.1 { (left - 1).min(BAR.0) } else { 0 }, tail }
    }

    /// A bar of this length: what is done, and what is left.
    pub(super) fn filled(&self, length: usize) -> [String; 2] {
        let full = (length * self.done).checked_div(self.total).unwrap_or(length).min(length);
        ["━".repeat(full), "─".repeat(length - full)]
    }
}

/// What stands around a bar, and how long that may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) head: String,
    pub(super) length: usize,
    pub(super) tail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge() -> Gauge {
        let details = vec!["loss 0.412".into(), "0:12 left".into(), "2,345 tokens/s".into()];
        Gauge { label: "sft-2".into(), done: 8, total: 32, details }
    }

    fn text(columns: usize) -> String {
        let Bar { head, length, tail } = gauge().bar(columns, 6);
        format!("{head}|{}|{tail}", gauge().filled(length).concat())
    }

    #[test]
    fn words_say_everything() {
        assert_eq!(gauge().words(), "sft-2  8/32  loss 0.412  0:12 left  2,345 tokens/s");
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters_most() {
        let bar = |full: usize, rest: usize| format!("{}{}", "━".repeat(full), "─".repeat(rest));
        assert_eq!(text(200), format!("sft-2 |{}| 8/32  loss 0.412  0:12 left  2,345 tokens/s", bar(8, 24)));
        assert_eq!(text(70), format!("sft-2 |{}| 8/32  loss 0.412  0:12 left  2,345 tokens/s", bar(4, 13)));
        assert_eq!(text(52), "sft-2 || 8/32  loss 0.412  0:12 left  2,345 tokens/s");
        assert_eq!(text(40), "sft-2 || 8/32  loss 0.412  0:12 left");
        assert_eq!(text(26), "sft-2 || 8/32  loss 0.412");
        assert_eq!(text(5), "sft-2 || 8/32");
    }

    #[test]
    fn nothing_to_do_is_a_full_bar() {
        let nothing = Gauge { label: "x".into(), done: 0, total: 0, details: Vec::new() };
        assert_eq!(nothing.filled(4), ["━━━━", ""]);
        assert_eq!(nothing.bar(80, 1).length, 32);
    }
}
