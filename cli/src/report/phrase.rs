//! Numbers and findings in words.

use std::path::Path;

use console::measure_text_width;
use hbat::consolidation::{Degenerate, Rule};
use hbat::trainer::ImportanceReport;

/// "1 step", "32 steps".
pub(crate) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Time left or spent on a clock: "0:07", "12:03", "1:02:03", "2 d 03:04:05".
pub(crate) fn clock(seconds: f64) -> String {
    let all = seconds.max(0.0).round() as u64;
    let (days, hours, minutes, seconds) = (all / 86400, all / 3600 % 24, all / 60 % 60, all % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days} d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// Time spent: "0.42 s", "12.3 s", "2:03 min", "1:02:03 h".
pub(crate) fn took(seconds: f64) -> String {
    match seconds {
        s if s < 9.995 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        s if s < 3599.5 => format!("{} min", clock(s)),
        s if s < 86399.5 => format!("{} h", clock(s)),
        s => clock(s),
    }
}

/// A count with its thousands set apart: "1,234,567".
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A measure to three decimals, or in scientific notation where these would hide it.
pub(crate) fn measure(value: f64) -> String {
    let size = value.abs();
    if size >= 1e5 || (size > 0.0 && size < 5e-4) { format!("{value:.1e}") } else { format!("{value:.3}") }
}

/// A size in decimal units: "999 B", "1.2 kB", "513 MB".
pub(crate) fn size(bytes: u64) -> String {
    size_to(bytes, 0)
}

/// Two sizes, with as many decimals as tell them apart.
pub(crate) fn sizes(both: [u64; 2]) -> [String; 2] {
    let apart = (0..6).map(|more| both.map(|bytes| size_to(bytes, more))).find(|[one, other]| one != other);
    apart.unwrap_or_else(|| both.map(size))
}

/// With some decimals more than usual.
fn size_to(bytes: u64, more: usize) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            let decimals = if unit == "B" { 0 } else { more + usize::from(value < 9.95) };
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.*} TB", 1 + more)
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Text that a terminal obeys is shown instead.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !"\n\t".contains(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// The text in lines of at most so many columns, a longer word on a line of its own.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= columns => *line += &format!(" {word}"),
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// A rule's name in run files.
pub(crate) fn rule_name(rule: Rule) -> &'static str {
    match rule {
        Rule::Paper => "paper",
        Rule::Reference => "reference",
        Rule::Relative => "relative",
        Rule::Proportional => "proportional",
        Rule::Random => "random",
        Rule::Fisher => "fisher",
    }
}

/// What a phase holds: "F: effective units 12.3 of 291 (relative)".
pub(crate) fn held(report: &ImportanceReport, rule: Option<Rule>) -> String {
    let rule = rule.map(|rule| format!(" ({})", rule_name(rule))).unwrap_or_default();
    format!("F: effective units {:.1} of {}{rule}", report.effective_units, report.importance.len())
}

/// What degenerate importances mean for the phase, and what to do about it. `None` where they say something.
pub(crate) fn warning(report: &ImportanceReport, rule: Option<Rule>) -> Option<String> {
    let units = report.importance.len();
    let finding = match report.degenerate? {
        Degenerate::Uniform => format!("all {units} units are held alike, whatever the other objective changed in them"),
        Degenerate::OneHot => {
            let effective = report.effective_units;
            format!("the penalty holds about one of {units} units ({effective:.2} effective) and leaves the others free")
        }
    };
    Some(format!("{finding}: {}", cause(report, rule)))
}

fn cause(report: &ImportanceReport, rule: Option<Rule>) -> &'static str {
    if report.accumulated.iter().all(|change| *change == 0.0) && rule != Some(Rule::Fisher) {
        return "the other objective has changed nothing yet, so there is nothing to tell them apart by; check its learning rate";
    }
    match (rule, report.degenerate) {
        (Some(Rule::Paper), Some(Degenerate::Uniform)) => {
            "changes are so small that the rule `paper`, a plain softmax over them, is flat; \
             choose the rule `relative` or `proportional` to hold most what changed most"
        }
        (Some(Rule::Reference), Some(Degenerate::OneHot)) => {
            "the rule `reference` multiplies changes by 1e20, so the largest takes all; \
             choose the rule `relative` or `proportional` to share the importance out"
        }
        (Some(Rule::Relative), Some(Degenerate::OneHot)) => {
            "one unit changed many times more than the mean and the softmax of the rule `relative` exaggerates that; \
             choose the rule `proportional` for a milder one"
        }
        (Some(Rule::Random), _) => "the rule `random` drew them so; choose another seed or the rule `relative`",
        (Some(Rule::Fisher), _) => "so say the means over their elements; the rule `fisher` still tells elements apart",
        (_, Some(Degenerate::OneHot)) => "one unit changed far more than all others; choose the rule `fisher` to weigh elements",
        _ => "the units changed almost equally; choose the rule `fisher` to weigh elements instead of units",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!([0.4, 59.4, 59.6, 3600.0, 93784.0].map(clock), ["0:00", "0:59", "1:00", "1:00:00", "1 d 02:03:04"]);
        assert_eq!([0.4, 9.996, 59.96, 3599.6].map(took), ["0.40 s", "10.0 s", "1:00 min", "1:00:00 h"]);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0.4, 999.0, 1000.0, 1234567.0].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.41249, -3.0, 1e-7, 123456.0].map(measure), ["0.000", "0.412", "-3.000", "1.0e-7", "1.2e5"]);
        assert_eq!([17, 1_234, 513_000_000, 2_000_000_000_000].map(size), ["17 B", "1.2 kB", "513 MB", "2.0 TB"]);
        assert_eq!(sizes([25_040_000_000, 24_970_000_000]), ["25.04 GB", "24.97 GB"]);
        assert_eq!(
            (sizes([25_000_000_000, 1_240_000]), sizes([7, 7])),
            (["25 GB", "1.2 MB"].map(Into::into), ["7 B", "7 B"].map(Into::into))
        );
    }

    #[test]
    fn paths_are_quoted_where_a_shell_would_cut_them() {
        let of = |path: &str| quoted(Path::new(path));
        assert_eq!([of("/a/b-1.5"), of("a b"), of("it's"), of("")], ["/a/b-1.5", "'a b'", r"'it'\''s'", "''"]);
    }

    #[test]
    fn terminals_are_not_told_what_to_do() {
        assert_eq!(harmless("a\tb\n\u{1b}[2J\0é\u{9b}"), "a\tb\n\\u{1b}[2J\\u{0}é\\u{9b}");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("a bc  def unpronounceable é", 6), ["a bc", "def", "unpronounceable", "é"]);
        assert_eq!(wrap("", 6), Vec::<String>::new());
    }

    #[test]
    fn rules_are_named_as_in_run_files() {
        for rule in [Rule::Paper, Rule::Reference, Rule::Relative, Rule::Proportional, Rule::Random, Rule::Fisher] {
            assert_eq!(serde_json::json!(rule), rule_name(rule));
        }
    }

    fn report(effective_units: f64, degenerate: Option<Degenerate>) -> ImportanceReport {
        ImportanceReport { accumulated: vec![1e-9; 4], importance: vec![25.0; 4], effective_units, degenerate }
    }

    #[test]
    fn degenerate_importances_are_explained_with_a_remedy() {
        let sound = report(2.5, None);
        assert_eq!(held(&sound, Some(Rule::Relative)), "F: effective units 2.5 of 4 (relative)");
        assert_eq!(warning(&sound, Some(Rule::Relative)), None);
        let uniform = warning(&report(4.0, Some(Degenerate::Uniform)), Some(Rule::Paper)).unwrap();
        assert!(uniform.starts_with("all 4 units are held alike") && uniform.contains("choose the rule `relative`"), "{uniform}");
        let one = warning(&report(1.0, Some(Degenerate::OneHot)), Some(Rule::Reference)).unwrap();
        assert!(one.contains("about one of 4 units (1.00 effective)") && one.contains("`relative` or"), "{one}");
        let nothing = ImportanceReport { accumulated: vec![0.0; 4], ..report(4.0, Some(Degenerate::Uniform)) };
        assert!(warning(&nothing, Some(Rule::Relative)).unwrap().contains("changed nothing yet"));
    }
}
