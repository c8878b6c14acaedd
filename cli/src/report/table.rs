//! The table at the end of a run: both objectives of every method, before and after each phase.

use console::{Alignment, measure_text_width, pad_str, truncate_str};

use super::Moment;
use super::phrase;

/// Columns that a plain table may take.
const WIDTH: usize = 100;
/// Columns that the names of a method and of a phase may take.
const NAMES: (usize, usize) = (24, 16);
/// Columns that a value takes at least, its mark included.
const VALUE: usize = 9;
/// The words of a heading are broken above this.
const HEADING: usize = 12;
/// Between two columns.
const GAP: &str = "  ";
/// Behind the best value of a column.
const BEST: &str = "*";

/// A measure: its heading, and its value at every moment.
struct Column {
    heading: String,
    cells: Vec<Cell>,
}

/// A measure at a moment.
#[derive(Clone)]
struct Cell {
    text: String,
    best: bool,
}

#[derive(Clone, Copy)]
enum Better {
    Less,
    More,
}

/// The table as plain text of at most 100 columns, a line break at its end. Methods stand together in order of appearance,
/// each one's moments in the order given. Measures that no moment has are left out; more than fit go below.
///
/// In each column the best value has a star: with several methods the best of their ends, as a good moment on the way may
/// have been lost; with one method the best of all its moments. Where all
/// read the same, none is best.
pub fn table(moments: &[Moment]) -> String {
    let moments = together(moments);
    let names = [names(&moments, |moment| &moment.method, "method", NAMES.0), names(&moments, Moment::label, "after", NAMES.1)];
    let taken: usize = names.iter().map(|column| width(column)).sum::<usize>() + GAP.len();
    let columns = columns(&moments);
    let mut text = String::new();
    for block in blocks(&columns, WIDTH - taken) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&plain(&names, block, &moments));
    }
    if columns.iter().flat_map(|column| &column.cells).any(|cell| cell.best) {
        text.push_str(&format!("{BEST} {}\n", meaning(&moments)));
    }
    text
}

/// The table in Markdown, the best value of each column in bold, by the rule of [`table`].
pub fn markdown(moments: &[Moment]) -> String {
    let moments = together(moments);
    let columns = columns(&moments);
    let headings = columns.iter().map(|column| escaped(&column.heading));
    let mut lines = vec![row(["method".into(), "after".into()].into_iter().chain(headings))];
    lines.push(row(["---".into(), "---".into()].into_iter().chain(columns.iter().map(|_| "---:".into()))));
    for (index, moment) in moments.iter().enumerate() {
        let cells = columns.iter().map(|column| match &column.cells[index] {
            Cell { text, best: true } => format!("**{text}**"),
            Cell { text, best: false } => text.clone(),
        });
        lines.push(row([escaped(&moment.method), escaped(moment.label())].into_iter().chain(cells)));
    }
    lines.join("\n") + "\n"
}

fn row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn together(moments: &[Moment]) -> Vec<Moment> {
    let of = |method| moments.iter().filter(move |moment| moment.method == method).cloned();
    methods(moments).into_iter().flat_map(of).collect()
}

fn meaning(moments: &[Moment]) -> &'static str {
    if methods(moments).len() > 1 { "best of the methods' ends" } else { "best of the run" }
}

/// All measures that occur.
fn columns(moments: &[Moment]) -> Vec<Column> {
    let mut columns = vec![
        column("SFT loss", moments, Better::Less, |moment| moment.sft_nll),
        column("preference accuracy", moments, Better::More, |moment| moment.accuracy),
        column("reward margin", moments, Better::More, |moment| moment.margin),
    ];
    let mut extras: Vec<&str> = Vec::new();
    for (name, _) in moments.iter().flat_map(|moment| &moment.extra) {
        if !extras.contains(&name.as_str()) {
            extras.push(name);
        }
    }
    let value = |moment: &Moment, name: &str| moment.extra.iter().find(|extra| extra.0 == name).map(|extra| extra.1);
    columns.extend(extras.into_iter().map(|name| column(name, moments, better(name), |moment| value(moment, name))));
    columns.retain(|column| column.cells.iter().any(|cell| cell.text != "–"));
    columns
}

/// Which way a further measure improves.
fn better(name: &str) -> Better {
    let name = name.to_lowercase();
    if ["loss", "nll", "perplexity"].iter().any(|end| name.ends_with(end)) { Better::Less } else { Better::More }
}

fn column(heading: &str, moments: &[Moment], better: Better, value: impl Fn(&Moment) -> Option<f64>) -> Column {
    let values: Vec<Option<f64>> = moments.iter().map(&value).collect();
    let several = methods(moments).len() > 1;
    let last = |index: usize| moments.get(index + 1).is_none_or(|next| next.method != moments[index].method);
    let eligible = |index: usize| !several || last(index);
    let rivals = values.iter().enumerate().filter(|(index, _)| eligible(*index)).filter_map(|(_, value)| *value);
    let rivals: Vec<f64> = rivals.filter(|value| !value.is_nan()).collect();
    let best = match better {
        Better::Less => rivals.iter().copied().reduce(f64::min),
        Better::More => rivals.iter().copied().reduce(f64::max),
    };
    // What reads the same is equally good; where all read the same, none is best.
    let best = best.map(phrase::measure).filter(|best| rivals.iter().any(|value| phrase::measure(*value) != *best));
    let cells = values.iter().enumerate().map(|(index, value)| {
        let text = value.map_or("–".to_string(), phrase::measure);
        Cell { best: eligible(index) && Some(&text) == best.as_ref(), text }
    });
    Column { heading: heading.to_string(), cells: cells.collect() }
}

/// A column of names, its heading first; too long a name is cut.
fn names(moments: &[Moment], name: impl Fn(&Moment) -> &str, heading: &str, most: usize) -> Vec<String> {
    let cut = |moment: &Moment| truncate_str(&name(moment).replace(['\n', '\r', '\t'], " "), most, "…").into_owned();
    std::iter::once(heading.to_string()).chain(moments.iter().map(cut)).collect()
}

fn width(texts: &[String]) -> usize {
    texts.iter().map(|text| measure_text_width(text)).max().unwrap_or(0)
}

/// The columns in groups that fit side by side.
fn blocks(columns: &[Column], columns_left: usize) -> Vec<&[Column]> {
    let mut blocks = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (index, column) in columns.iter().enumerate() {
        let needed = GAP.len() + column.width();
        if index > start && used + needed > columns_left {
            blocks.push(&columns[start..index]);
            (start, used) = (index, 0);
        }
        used += needed;
    }
    blocks.push(&columns[start..]);
    blocks
}

impl Column {
    fn headings(&self) -> Vec<String> {
        wrapped(&self.heading)
    }

    /// Wide enough for the heading and for values, each with a mark or a blank behind it.
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| measure_text_width(&cell.text) + BEST.len());
        cells.max().unwrap_or(0).max(width(&self.headings()) + BEST.len()).max(VALUE)
    }
}

/// A heading in lines of at most [`HEADING`] columns; a longer word is cut.
fn wrapped(heading: &str) -> Vec<String> {
    let lines = phrase::wrap(heading, HEADING);
    lines.iter().map(|line| truncate_str(line, HEADING, "…").into_owned()).collect()
}

fn plain(names: &[Vec<String>; 2], columns: &[Column], moments: &[Moment]) -> String {
    let widths: Vec<usize> = names.iter().map(|name| width(name)).chain(columns.iter().map(Column::width)).collect();
    let rule = "─".repeat(widths.iter().sum::<usize>() + GAP.len() * (widths.len() - 1));
    let mut lines = headings(columns, &widths);
    for (index, moment) in moments.iter().enumerate() {
        let begins = index == 0 || moments[index - 1].method != moment.method;
        if begins {
            lines.push(rule.clone());
        }
        let method = if begins { names[0][index + 1].clone() } else { String::new() };
        let cells = columns.iter().map(|column| &column.cells[index]);
        let cells = cells.map(|cell| format!("{}{}", cell.text, if cell.best { BEST } else { " " }));
        lines.push(line([method, names[1][index + 1].clone()].into_iter().chain(cells), &widths));
    }
    lines.push(rule);
    lines.join("\n") + "\n"
}

/// The headings' lines, aligned at the bottom.
fn headings(columns: &[Column], widths: &[usize]) -> Vec<String> {
    let headings: Vec<Vec<String>> = columns.iter().map(Column::headings).collect();
    let height = headings.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let at = |number: usize| {
        let names = if number + 1 == height { ["method".to_string(), "after".to_string()] } else { Default::default() };
        let words = headings.iter().map(move |lines| {
            let line = (number + lines.len()).checked_sub(height).map_or("", |index| &lines[index]);
            format!("{line} ")
        });
        line(names.into_iter().chain(words), widths)
    };
    (0..height).map(at).collect()
}

/// One line: two names to the left, values to the right of their columns.
fn line(cells: impl Iterator<Item = String>, widths: &[usize]) -> String {
    let aligned = cells.zip(widths).enumerate().map(|(index, (cell, width))| {
        let alignment = if index < 2 { Alignment::Left } else { Alignment::Right };
        pad_str(&cell, *width, alignment, None).into_owned()
    });
    aligned.collect::<Vec<_>>().join(GAP).trim_end().to_string()
}

/// The methods of these moments, in order of appearance.
pub(super) fn methods(moments: &[Moment]) -> Vec<&str> {
    let mut methods: Vec<&str> = Vec::new();
    for moment in moments {
        if !methods.contains(&moment.method.as_str()) {
            methods.push(&moment.method);
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(method: &str, phase: &str, [nll, accuracy, margin]: [f64; 3], covered: Option<f64>) -> Moment {
        Moment {
            method: method.into(),
            phase: (phase != "start").then(|| phase.into()),
            sft_nll: Some(nll),
            accuracy: Some(accuracy),
            margin: Some(margin),
            extra: covered.map(|value| ("exact match, covered".to_string(), value)).into_iter().collect(),
        }
    }

    fn two_methods() -> Vec<Moment> {
        vec![
            moment("two-stage", "start", [3.2213, 0.5, 0.0], Some(0.02)),
            moment("hbat", "start", [3.2213, 0.5, 0.0], None),
            moment("two-stage", "sft-1", [0.312, 0.53125, -0.034], Some(0.99)),
            moment("two-stage", "dpo-1", [0.633, 0.96875, 12.3412], Some(0.41)),
            moment("hbat", "dpo-2", [0.4051, 0.9687, 2.3412], Some(0.93)),
        ]
    }

    #[test]
    fn several_methods_are_compared_at_their_ends() {
        let expected = "
                             preference     reward   exact match,
method     after  SFT loss     accuracy     margin        covered
──────────────────────────────────────────────────────────────────
two-stage  start     3.221        0.500      0.000          0.020
           sft-1     0.312        0.531     -0.034          0.990
           dpo-1     0.633        0.969     12.341*         0.410
──────────────────────────────────────────────────────────────────
hbat       start     3.221        0.500      0.000              –
           dpo-2     0.405*       0.969      2.341          0.930*
──────────────────────────────────────────────────────────────────
* best of the methods' ends
";
        assert_eq!(format!("\n{}", table(&two_methods())), expected);
    }

    #[test]
    fn one_method_is_compared_with_itself() {
        let mut moments = vec![moment("sft", "start", [2.0, 0.5, 0.0], None), moment("sft", "sft-1", [1e-9, 0.5, 0.0], None)];
        moments.iter_mut().for_each(|moment| (moment.accuracy, moment.margin) = (None, Some(0.0)));
        let expected = "
                            reward
method  after  SFT loss     margin
───────────────────────────────────
sft     start     2.000      0.000
        sft-1    1.0e-9*     0.000
───────────────────────────────────
* best of the run
";
        assert_eq!(format!("\n{}", table(&moments)), expected);
    }

    #[test]
    fn markdown_has_the_same_numbers() {
        let expected = "\
| method | after | SFT loss | preference accuracy | reward margin | exact match, covered |
| --- | --- | ---: | ---: | ---: | ---: |
| two-stage | start | 3.221 | 0.500 | 0.000 | 0.020 |
| two-stage | sft-1 | 0.312 | 0.531 | -0.034 | 0.990 |
| two-stage | dpo-1 | 0.633 | 0.969 | **12.341** | 0.410 |
| hbat | start | 3.221 | 0.500 | 0.000 | – |
| hbat | dpo-2 | **0.405** | 0.969 | 2.341 | **0.930** |
";
        assert_eq!(markdown(&two_methods()), expected);
        let piped = markdown(&[moment("a|b", "start", [1.0, 1.0, 1.0], None)]);
        assert!(piped.contains(r"| a\|b | start |"), "{piped}");
    }

    #[test]
    fn long_names_and_many_measures_fit_a_hundred_columns() {
        let mut moments = two_methods();
        for moment in &mut moments {
            moment.method = moment.method.repeat(9);
            moment.phase = moment.phase.as_ref().map(|phase| phase.repeat(9));
            moment.extra = (0..12).map(|n| (format!("measurement number {n} of an unpronounceableness"), f64::from(n))).collect();
        }
        let text = table(&moments);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.matches("number 11").count(), 1, "{text}");
        assert!(text.contains("two-stagetwo-stagetwo-s…") && text.contains("dpo-2dpo-2dpo-2…"), "{text}");
    }

    #[test]
    fn no_moments_are_an_empty_table() {
        assert_eq!(table(&[]), "method  after\n─────────────\n");
        assert_eq!(markdown(&[]), "| method | after |\n| --- | --- |\n");
    }
}
